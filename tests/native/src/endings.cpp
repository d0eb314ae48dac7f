// tests/native/src/endings.cpp: native threads that end operations and streams at chosen moments
#include "native.h"

#include <memory>
#include <stdexcept>

namespace {

/// A thread that fulfils one promise after another, each at the moment at which it is told to.
class Racer {
public:
    Racer() : thread_([this] { run(); }) {}
    ~Racer() {
        phase_.store(Phase::stop);
        thread_.join();
    }
    /// The thread waits for go(), and then `spins` turns of a loop.
    aiobridge::future<Tracked> arm(std::int64_t number, int spins) {
        auto [promise, future] = aiobridge::make_promise<Tracked>();
        promise.on_cancel([this](aiobridge::cancel_reason) { cancels_.fetch_add(1); });
        promise_ = std::make_unique<aiobridge::promise<Tracked>>(std::move(promise));
        number_ = number;
        spins_ = spins;
        phase_.store(Phase::armed);
        return future;
    }
    void go() { phase_.store(Phase::go); }
    /// The fate of the value.
    std::string wait() {
        while (phase_.load() != Phase::idle)
            std::this_thread::yield();
        return name_of(fate_);
    }
    std::int64_t cancels() const { return cancels_.load(); }

private:
    enum class Phase { idle, armed, go, stop };

    void run() {
        for (;;) {
            const auto phase = phase_.load();
            if (phase == Phase::stop)
                return;
            if (phase == Phase::idle)
                std::this_thread::yield();
            if (phase != Phase::go)
                continue;
            for (volatile int i = 0; i < spins_;)
                i = i + 1;
            fate_ = promise_->set_value(Tracked(number_));
            promise_.reset();
            phase_.store(Phase::idle);
        }
    }

    std::atomic<Phase> phase_{Phase::idle};
    std::atomic<std::int64_t> cancels_{0};
    std::unique_ptr<aiobridge::promise<Tracked>> promise_;
    std::int64_t number_ = 0;
    int spins_ = 0;
    aiobridge::fate fate_{};
    std::thread thread_;
};

/// Holds native ends, and does with them what it is told on a thread of its own, which never has the GIL. `finished`
/// tells when that has returned.
class Holder : public std::enable_shared_from_this<Holder> {
public:
    aiobridge::future<std::int64_t> promise() {
        auto [promise, future] = aiobridge::make_promise<std::int64_t>();
        promises_.push_back(std::move(promise));
        return future;
    }
    /// An operation of which Python never hears.
    void operation() {
        auto [promise, future] = aiobridge::make_promise<std::int64_t>();
        promises_.push_back(std::move(promise));
        futures_.push_back(std::move(future));
    }
    /// One that both have.
    aiobridge::future<std::int64_t> shared() {
        operation();
        return futures_.back();
    }
    aiobridge::stream<std::int64_t> writer() {
        auto [writer, stream] = aiobridge::make_stream<std::int64_t>();
        writers_.push_back(std::move(writer));
        return stream;
    }
    void callback(aiobridge::callback<void()> callback) { callbacks_.push_back(std::move(callback)); }

    /// Everything fails with one error, which is this Python exception. Nobody but the native ends holds it then.
    void fail(const py::object &exception) {
        std::vector<std::exception_ptr> errors;
        try {
            PyErr_SetObject(py::type::handle_of(exception).ptr(), exception.ptr());
            throw py::error_already_set();
        } catch (...) {
            errors.assign(promises_.size() + writers_.size(), std::current_exception());
        }
        start([errors = std::move(errors)](Holder &self) mutable {
            for (const auto &promise : self.promises_)
                promise.set_exception(take(errors));
            for (const auto &writer : self.writers_)
                writer.fail(take(errors));
        });
    }
    void let_go() {
        start([](Holder &self) { self.clear(); });
    }
    bool finished() const { return finished_.load(); }

    /// When Python is gone, a thread lets go of everything.
    void let_go_at_process_end() {
        static struct Last {
            ~Last() {
                std::thread([this] { holder->clear(); }).join();
                std::fputs("let go\n", stdout);
            }
            std::shared_ptr<Holder> holder;
        } last;
        last.holder = shared_from_this();
    }

private:
    static std::exception_ptr take(std::vector<std::exception_ptr> &errors) {
        auto error = std::move(errors.back());
        errors.pop_back();
        return error;
    }
    template <class Work> void start(Work work) {
        finished_.store(false);
        std::thread([self = shared_from_this(), work = std::move(work)]() mutable {
            work(*self);
            self->finished_.store(true);
        }).detach();
    }
    void clear() {
        callbacks_.clear();
        writers_.clear();
        futures_.clear();
        promises_.clear();
    }

    std::vector<aiobridge::promise<std::int64_t>> promises_;
    std::vector<aiobridge::future<std::int64_t>> futures_;
    std::vector<aiobridge::writer<std::int64_t>> writers_;
    std::vector<aiobridge::callback<void()>> callbacks_;
    std::atomic<bool> finished_{false};
};

} // namespace

void register_endings(py::module_ &m) {
    const py::call_guard<py::gil_scoped_release> release;
    py::class_<Racer>(m, "Racer")
        .def(py::init())
        .def("arm", &Racer::arm, py::arg("number"), py::arg("spins"))
        .def("go", &Racer::go)
        .def("wait", &Racer::wait, release)
        .def_property_readonly("cancels", &Racer::cancels);
    // 0, 1, 2 … pushed once each, before Python sees the stream; and how many lived at most.
    m.def("tracked_burst", [](std::int64_t count, std::size_t capacity, const std::string &overflow) {
        auto [writer, stream] =
            aiobridge::make_stream<Tracked>({.capacity = capacity, .overflow = overflow_named(overflow)});
        std::int64_t most = 0;
        std::thread([&most, &writer = writer, count] {
            for (std::int64_t i = 0; i < count; ++i) {
                writer.push(Tracked(i));
                most = std::max(most, Tracked::live.load());
            }
        }).join();
        return py::make_tuple(stream, most);
    });
    py::class_<Holder, std::shared_ptr<Holder>>(m, "Holder")
        .def(py::init())
        .def("promise", &Holder::promise)
        .def("operation", &Holder::operation)
        .def("shared", &Holder::shared)
        .def("writer", &Holder::writer)
        .def("callback", &Holder::callback)
        .def("fail", &Holder::fail)
        .def("let_go", &Holder::let_go)
        .def("let_go_at_process_end", &Holder::let_go_at_process_end)
        .def_property_readonly("finished", &Holder::finished);
}
