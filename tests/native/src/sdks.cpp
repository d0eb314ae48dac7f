// tests/native/src/sdks.cpp: four vendors' ideas of a callback API, each with its own way to deadlock a bridge
#include "native.h"

#include <latch>
#include <optional>

namespace {

using Listener = std::function<void(std::int64_t)>;

/// A thread that calls a listener. `unsubscribe` waits until it has ended.
class JoiningSdk {
public:
    ~JoiningSdk() { unsubscribe(); }
    void subscribe(Listener listener) {
        thread_ = std::thread([this, listener = std::move(listener)] {
            for (std::int64_t i = 0; !stop_; ++i)
                listener(i);
        });
    }
    void unsubscribe() {
        stop_ = true;
        if (thread_.joinable())
            thread_.join();
    }

private:
    std::atomic<bool> stop_{false};
    std::thread thread_;
};

/// A listener may unsubscribe itself, on the library's thread. The mutex is the library's, and guards its state.
class SelfUnsubscribingSdk : public std::enable_shared_from_this<SelfUnsubscribingSdk> {
public:
    void subscribe(std::function<void(SelfUnsubscribingSdk &, std::int64_t)> listener) {
        std::thread([this, alive = shared_from_this(), listener = std::move(listener)] {
            for (std::int64_t i = 0; subscribed(); ++i)
                listener(*this, i);
        }).detach();
    }
    void unsubscribe() {
        const std::lock_guard lock(mutex_);
        subscribed_ = false;
        ++calls_;
    }
    int calls() {
        const std::lock_guard lock(mutex_);
        return calls_;
    }

private:
    bool subscribed() {
        const std::lock_guard lock(mutex_);
        return subscribed_;
    }
    std::mutex mutex_;
    bool subscribed_ = true;
    int calls_ = 0;
};

/// Calls its listener with its mutex held, which `unsubscribe` takes.
class LockingSdk : public std::enable_shared_from_this<LockingSdk> {
public:
    void subscribe(Listener listener) {
        std::thread([this, alive = shared_from_this(), listener = std::move(listener)] {
            for (std::int64_t i = 0;; ++i) {
                const std::lock_guard lock(mutex_);
                if (!subscribed_)
                    return;
                listener(i);
            }
        }).detach();
    }
    void unsubscribe() {
        const std::lock_guard lock(mutex_);
        subscribed_ = false;
    }

private:
    std::mutex mutex_;
    bool subscribed_ = true;
};

template <class Sdk> aiobridge::stream<std::int64_t> events(std::shared_ptr<Recorder> recorder) {
    auto sdk = std::make_shared<Sdk>();
    auto [writer, stream] =
        aiobridge::make_stream<std::int64_t>({.capacity = 2, .overflow = aiobridge::overflow::block});
    sdk->subscribe([writer = writer, recorder](std::int64_t i) {
        if (writer.push(i) != aiobridge::fate::accepted)
            recorder->record("released");
    });
    stream.on_close([sdk, recorder](aiobridge::close_reason reason) {
        sdk->unsubscribe();
        recorder->record(name_of(reason) + " on " + thread_name() + (PyGILState_Check() ? " with the GIL" : ""));
    });
    return stream;
}

/// Asks Python with its mutex held, which `abort` takes.
class AskingSdk : public std::enable_shared_from_this<AskingSdk> {
public:
    void work(const aiobridge::callback<std::int64_t(std::int64_t)> &callback,
              const aiobridge::promise<std::int64_t> &promise) {
        std::thread([this, alive = shared_from_this(), callback, promise] {
            const std::lock_guard lock(mutex_);
            try {
                promise.set_value(callback.call(1).get());
            } catch (const std::exception &) {
                promise.set_exception(std::current_exception());
            }
        }).detach();
    }
    void abort() { const std::lock_guard lock(mutex_); }

private:
    std::mutex mutex_;
};

} // namespace

void register_sdks(py::module_ &m) {
    m.def("joining_sdk", &events<JoiningSdk>);
    m.def("locking_sdk", &events<LockingSdk>);
    m.def("self_unsubscribing_sdk", [](std::int64_t count, std::shared_ptr<Recorder> recorder) {
        auto sdk = std::make_shared<SelfUnsubscribingSdk>();
        auto [writer, stream] = aiobridge::make_stream<std::int64_t>();
        auto held = std::make_shared<std::optional<aiobridge::writer<std::int64_t>>>(writer);
        sdk->subscribe([held, sdk, count](SelfUnsubscribingSdk &from, std::int64_t i) {
            (*held)->push(i);
            if (i + 1 == count) {
                from.unsubscribe();
                held->reset();
            }
        });
        stream.on_close([sdk, recorder](aiobridge::close_reason reason) {
            sdk->unsubscribe();
            recorder->record(name_of(reason) + " after " + std::to_string(sdk->calls()));
        });
        return stream;
    });
    m.def("asking_sdk",
          [](aiobridge::callback<std::int64_t(std::int64_t)> callback, std::shared_ptr<Recorder> recorder) {
              auto sdk = std::make_shared<AskingSdk>();
              auto [promise, future] = aiobridge::make_promise<std::int64_t>();
              sdk->work(callback, promise);
              promise.on_cancel([sdk, recorder](aiobridge::cancel_reason reason) {
                  sdk->abort();
                  recorder->record(name_of(reason) + " on " + thread_name());
              });
              return future;
          });
}
