// tests/native/src/vendor.cpp: a C++ library whose callbacks are std::functions, and which knows nothing of aiobridge
#include "native.h"

#include <pybind11/functional.h>

#include <map>
#include <memory>
#include <stdexcept>

namespace {

/// Calls back on threads of its own, with its mutex held, which every function of it takes.
class Vendor : public std::enable_shared_from_this<Vendor> {
public:
    using Done = std::function<void(std::int64_t)>;

    ~Vendor() {
        for (auto &[id, subscription] : subscriptions_)
            stop(*subscription);
    }
    void compute(std::int64_t number, Done done) {
        start([number, done = std::move(done)] { done(number + 1); });
    }
    void divide(std::int64_t a, std::int64_t b, std::function<void(std::int64_t, std::int64_t)> on_done,
                std::function<void(int, std::string)> on_error) {
        start([=] { b ? on_done(a / b, a % b) : on_error(33, "division by zero"); });
    }
    void twice(std::int64_t number, Done done) {
        start([number, done = std::move(done)] {
            done(number);
            done(number + 1);
        });
    }
    std::int64_t wait(Done done) {
        const std::lock_guard lock(mutex_);
        waiting_.emplace(++last_id_, std::move(done));
        return last_id_;
    }
    void abort(std::int64_t id) {
        const std::lock_guard lock(mutex_);
        waiting_.erase(id);
    }
    void forget() {
        start([this] { waiting_.clear(); });
    }
    std::int64_t on_message(std::string topic, std::function<void(std::string, std::int64_t)> listener) {
        const std::lock_guard lock(mutex_);
        auto subscription = std::make_unique<Subscription>();
        subscription->thread = std::thread(
            [this, topic = std::move(topic), listener = std::move(listener), &stopped = subscription->stopped] {
                for (std::int64_t i = 0; !stopped; ++i) {
                    const std::lock_guard turn(mutex_);
                    listener(topic, i);
                }
            });
        subscriptions_.emplace(++last_id_, std::move(subscription));
        return last_id_;
    }
    /// Waits for the mutex and then for the thread.
    void off_message(std::int64_t id) {
        std::unique_ptr<Subscription> subscription;
        {
            const std::lock_guard lock(mutex_);
            auto node = subscriptions_.extract(id);
            if (node.empty())
                throw std::invalid_argument("no subscription " + std::to_string(id));
            subscription = std::move(node.mapped());
        }
        stop(*subscription);
    }

private:
    struct Subscription {
        std::atomic<bool> stopped{false};
        std::thread thread;
    };
    static void stop(Subscription &subscription) {
        subscription.stopped = true;
        subscription.thread.join();
    }
    template <class Work> void start(Work work) {
        std::thread([alive = shared_from_this(), work = std::move(work)] {
            const std::lock_guard lock(alive->mutex_);
            work();
        }).detach();
    }
    std::mutex mutex_;
    std::int64_t last_id_ = 0;
    std::map<std::int64_t, Done> waiting_;
    std::map<std::int64_t, std::unique_ptr<Subscription>> subscriptions_;
};

} // namespace

void register_vendor(py::module_ &m) {
    const py::call_guard<py::gil_scoped_release> release;
    py::class_<Vendor, std::shared_ptr<Vendor>>(m, "Vendor")
        .def(py::init())
        .def("compute", &Vendor::compute, release)
        .def("divide", &Vendor::divide, release, py::arg("a"), py::arg("b"), py::kw_only(), py::arg("on_done"),
             py::arg("on_error"))
        .def("twice", &Vendor::twice, release)
        .def("wait", &Vendor::wait, release)
        .def("abort", &Vendor::abort, release)
        .def("forget", &Vendor::forget, release)
        .def("on_message", &Vendor::on_message, release)
        .def("off_message", &Vendor::off_message, release);
}
