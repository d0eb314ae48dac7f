// tests/native/src/operations.cpp: promises, futures and async functions
#include "native.h"

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <tuple>

namespace {

/// What Python gets for it is chosen by its kind: values that `await` must hand over exactly, and conversions that
/// fail.
struct Chosen {
    std::string kind;
};

/// Where a conversion of the kind "gated" stops, without the GIL: the first one, until it is told to go on.
class ConversionGate {
public:
    void pass() {
        std::unique_lock lock(mutex_);
        if (++entered_ == 1)
            opened_.wait(lock, [this] { return open_; });
    }
    void open() {
        const std::lock_guard lock(mutex_);
        open_ = true;
        opened_.notify_all();
    }
    int entered() {
        const std::lock_guard lock(mutex_);
        return entered_;
    }
    static inline std::shared_ptr<ConversionGate> newest; // GIL

private:
    std::mutex mutex_;
    std::condition_variable opened_;
    bool open_ = false;
    int entered_ = 0;
};

struct Answer {
    std::int64_t value;
};
class AnswerError : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

// The native side of one operation, driven by a test.
template <class T> class Producer {
public:
    explicit Producer(aiobridge::promise<T> promise) : promise_(std::move(promise)) {}
    std::string set(T value) { return name_of(promise_->set_value(std::move(value))); }
    std::string fail(const std::string &text) { return name_of(promise_->set_exception(std::runtime_error(text))); }
    void set_from_thread(T value) {
        std::thread([promise = *promise_, value = std::move(value)]() mutable {
            promise.set_value(std::move(value));
        }).detach();
    }
    void drop() { promise_.reset(); }
    void drop_in_thread() {
        std::thread([promise = std::move(*promise_)]() mutable { auto gone = std::move(promise); }).detach();
        promise_.reset();
    }
    std::string reason() const { return name_of(promise_->close_reason()); }
    bool cancelled() const { return promise_->cancelled(); }
    void keep_token() { token_ = promise_->token(); }
    void on_cancel(std::shared_ptr<Recorder> recorder) {
        // The closure's end is recorded too: it must come on the hook thread.
        struct Last {
            std::shared_ptr<Recorder> recorder;
            ~Last() { recorder->record("closure destroyed on " + thread_name()); }
        };
        promise_->on_cancel([recorder, last = std::make_shared<Last>(recorder)](aiobridge::cancel_reason reason) {
            recorder->record(name_of(reason) + " on " + thread_name() + (PyGILState_Check() ? " with the GIL" : ""));
        });
    }

private:
    std::optional<aiobridge::promise<T>> promise_;
    aiobridge::stop_token token_;
};

template <class T> auto bind_producer(py::module_ &m, const char *name) {
    using P = Producer<T>;
    const py::call_guard<py::gil_scoped_release> release;
    m.def((std::string("make_") + name).c_str(), [] {
        auto [promise, future] = aiobridge::make_promise<T>();
        return py::make_tuple(std::make_shared<P>(std::move(promise)), future);
    });
    return py::class_<P, std::shared_ptr<P>>(m, name)
        .def("set", &P::set, release)
        .def("fail", &P::fail, release)
        .def("set_from_thread", &P::set_from_thread, release)
        .def("drop", &P::drop, release)
        .def("drop_in_thread", &P::drop_in_thread, release)
        .def("on_cancel", &P::on_cancel, release)
        .def("keep_token", &P::keep_token)
        .def_property_readonly("reason", &P::reason)
        .def_property_readonly("cancelled", &P::cancelled);
}

class Counter {
public:
    std::int64_t add(std::int64_t more) { return value_ += more; }

private:
    std::int64_t value_ = 0;
};

} // namespace

namespace pybind11::detail {
template <> struct type_caster<Chosen> {
    PYBIND11_TYPE_CASTER(Chosen, const_name("object"));
    bool load(handle source, bool) {
        value.kind = source.cast<std::string>();
        return true;
    }
    static handle cast(const Chosen &chosen, return_value_policy, handle) {
        const auto raise = [](PyObject *type) -> handle {
            PyErr_SetString(type, "from the converter");
            throw error_already_set();
        };
        if (chosen.kind == "tuple")
            return make_tuple(1, 2).release();
        if (chosen.kind == "none")
            return none().release();
        if (chosen.kind == "exception")
            return PyObject_CallFunction(PyExc_ValueError, "s", "a value, not an error");
        if (chosen.kind == "stop")
            return PyObject_CallFunction(PyExc_StopIteration, "s", "a value, not an end");
        if (chosen.kind == "throw")
            throw std::out_of_range("from the converter");
        if (chosen.kind == "raise")
            return raise(PyExc_KeyError);
        if (chosen.kind == "raise stop")
            return raise(PyExc_StopIteration);
        if (chosen.kind == "interrupt")
            return raise(PyExc_KeyboardInterrupt);
        if (chosen.kind == "exit")
            return raise(PyExc_SystemExit);
        if (chosen.kind == "null")
            return handle();
        if (chosen.kind == "gated") {
            const auto gate = ConversionGate::newest;
            const gil_scoped_release release;
            gate->pass();
        }
        return str(chosen.kind).release();
    }
};
} // namespace pybind11::detail

void register_operations(py::module_ &m) {
    bind_producer<std::int64_t>(m, "Promise");
    bind_producer<Chosen>(m, "ChosenPromise");
    bind_producer<Tracked>(m, "TrackedPromise");
    m.def("chosen_events", [](const std::vector<std::string> &kinds) {
        auto [writer, stream] = aiobridge::make_stream<Chosen>();
        for (const auto &kind : kinds)
            writer.push(Chosen{kind});
        return stream;
    });
    py::class_<ConversionGate, std::shared_ptr<ConversionGate>>(m, "ConversionGate")
        .def(py::init([] { return ConversionGate::newest = std::make_shared<ConversionGate>(); }))
        .def("open", &ConversionGate::open)
        .def_property_readonly("entered", &ConversionGate::entered);

    m.def("add", aiobridge::async([](std::int64_t a, std::int64_t b) { return a + b; }), py::arg("a"), py::arg("b") = 1,
          "Adds two numbers on the pool.");
    m.def("length", aiobridge::async([](const std::string &text) { return text.size(); }));
    m.def("nothing", aiobridge::async([] {}));
    m.def("thread_name", aiobridge::async([] { return thread_name(); }));
    m.def("has_gil", aiobridge::async([] { return PyGILState_Check() != 0; }));
    m.def("various", aiobridge::async([](std::vector<std::string> texts, std::optional<double> number) {
              return std::tuple(texts, number, texts.size());
          }));
    m.def("fail_with", aiobridge::async([](const std::string &kind) -> int {
              if (kind == "runtime_error")
                  throw std::runtime_error("it failed");
              if (kind == "out_of_range")
                  throw std::out_of_range("too far");
              if (kind == "system_error")
                  throw std::system_error(std::make_error_code(std::errc::permission_denied), "no entry");
              if (kind == "registered")
                  throw AnswerError("42 was expected");
              throw 5;
          }));
    py::register_exception<AnswerError>(m, "AnswerError");
    py::class_<Answer>(m, "Answer").def_readonly("value", &Answer::value);
    m.def("answer", aiobridge::async([] { return Answer{42}; }));

    // Waits until it is asked to stop; `started` and `stopped` tell.
    m.def("run_until_stopped", aiobridge::async([](aiobridge::stop_token stop, std::shared_ptr<Recorder> recorder) {
              recorder->record("started");
              while (!stop.stop_requested())
                  std::this_thread::yield();
              recorder->record("stopped: " + name_of(stop.reason()));
          }));
    // Returns when so many calls of it have come, on as many threads. All calls ask for the same number.
    m.def("meet", aiobridge::async([](int number) {
              static std::atomic<int> come{0};
              const int all = (come.fetch_add(1) / number + 1) * number;
              while (come.load() < all)
                  std::this_thread::yield();
          }));
    m.def("record", aiobridge::async(
                        [](const std::shared_ptr<Recorder> &recorder, std::string text) { recorder->record(text); }));

    py::class_<Counter, std::shared_ptr<Counter>>(m, "Counter")
        .def(py::init())
        .def("add", aiobridge::async(&Counter::add));

    // A future that is returned twice is one Python object.
    m.def("twice", [] {
        auto [promise, future] = aiobridge::make_promise<int>();
        promise.set_value(1);
        return py::make_tuple(future, future);
    });
    m.def("resolved", [](std::int64_t value) {
        auto [promise, future] = aiobridge::make_promise<std::int64_t>();
        promise.set_value(value);
        return future;
    });
    // The future of an operation, however often it is asked for.
    struct Again {
        aiobridge::promise<int> promise;
        aiobridge::future<int> future;
    };
    py::class_<Again>(m, "Again")
        .def(py::init([] {
            auto [promise, future] = aiobridge::make_promise<int>();
            return Again{promise, future};
        }))
        .def("future", [](const Again &self) { return self.future; });
    m.def("cancelled_by_native", [] {
        auto [promise, future] = aiobridge::make_promise<int>();
        std::thread([future = future, promise = promise] { future.cancel(); }).detach();
        return future;
    });
    // One exception, shared: each future raises it, with its own translation.
    m.def("fail_all", [](int count) {
        std::vector<aiobridge::future<int>> futures;
        std::vector<aiobridge::promise<int>> promises;
        for (int i = 0; i < count; ++i) {
            auto [promise, future] = aiobridge::make_promise<int>();
            promises.push_back(promise);
            futures.push_back(future);
        }
        auto error = std::make_exception_ptr(std::out_of_range("shared"));
        std::thread([promises, error] {
            for (const auto &promise : promises)
                promise.set_exception(error);
        }).detach();
        return futures;
    });
    // `count` operations, completed by `threads` threads when `go` is called.
    struct Burst {
        std::vector<aiobridge::promise<std::int64_t>> promises;
        std::vector<std::thread> threads; // each refers to this
        // Not joined: a test has failed before, and this may be the last of them. That test is to be told of.
        ~Burst() {
            for (auto &thread : threads)
                thread.detach();
        }
    };
    py::class_<Burst, std::shared_ptr<Burst>>(m, "Burst")
        .def(py::init())
        .def("make",
             [](const std::shared_ptr<Burst> &self, int count) {
                 std::vector<aiobridge::future<std::int64_t>> futures;
                 for (int i = 0; i < count; ++i) {
                     auto [promise, future] = aiobridge::make_promise<std::int64_t>();
                     self->promises.push_back(promise);
                     futures.push_back(future);
                 }
                 return futures;
             })
        .def(
            "go",
            [](const std::shared_ptr<Burst> &self, int threads) {
                const auto count = self->promises.size();
                for (int t = 0; t < threads; ++t)
                    self->threads.emplace_back([self, t, threads, count] {
                        for (std::size_t i = t; i < count; i += threads)
                            self->promises[i].set_value(static_cast<std::int64_t>(i));
                    });
            },
            py::arg("threads") = 1)
        .def("join", [](const std::shared_ptr<Burst> &self) {
            const py::gil_scoped_release release;
            for (auto &thread : self->threads)
                thread.join();
            self->threads.clear();
            self->promises.clear();
        });
    m.def("hook_that_throws", [] {
        auto [promise, future] = aiobridge::make_promise<int>();
        promise.on_cancel([keep = promise](aiobridge::cancel_reason) { throw std::runtime_error("the hook failed"); });
        return future;
    });
}
