// tests/native/src/callbacks.cpp: Python functions held and called by native threads, and the GIL guard
#include "native.h"

#include <optional>

namespace {

using Callback = aiobridge::callback<std::int64_t(std::int64_t)>;

std::vector<std::string> outcome(std::future<std::int64_t> result) {
    try {
        return {"value", std::to_string(result.get())};
    } catch (const aiobridge::python_error &error) {
        return {"raised", error.type(), error.message(), error.traceback()};
    } catch (const aiobridge::call_refused &refused) {
        return {"refused", name_of(refused.what_happened()), name_of(refused.reason()), refused.what()};
    }
}

class Caller {
public:
    explicit Caller(Callback callback) : callback_(std::move(callback)) {}

    std::string fire(std::int64_t number) { return name_of((*callback_)(number)); }
    std::string fire_in_thread(std::int64_t number) {
        std::string fate;
        std::thread([&] { fate = name_of((*callback_)(number)); }).join();
        return fate;
    }
    /// 0, 1, 2 … from as many threads, each with a copy that it destroys; how many were accepted.
    std::int64_t fire_from_threads(std::int64_t count, int threads) {
        std::vector<std::thread> running;
        std::atomic<std::int64_t> accepted{0};
        for (int t = 0; t < threads; ++t)
            running.emplace_back([&, t, callback = *callback_] {
                for (std::int64_t i = 0; i < count; ++i) {
                    const auto copy = callback;
                    accepted += copy(i * threads + t) == aiobridge::fate::accepted;
                }
            });
        for (auto &thread : running)
            thread.join();
        return accepted;
    }
    /// A native thread waits for the result.
    aiobridge::future<std::vector<std::string>> ask(std::int64_t number) {
        auto [promise, future] = aiobridge::make_promise<std::vector<std::string>>();
        std::thread([callback = *callback_, promise = promise, number] {
            promise.set_value(outcome(callback.call(number)));
        }).detach();
        return future;
    }
    /// The same, told to a recorder, because the loop may be gone.
    void ask_and_record(std::int64_t number, std::shared_ptr<Recorder> recorder) {
        std::thread([callback = *callback_, recorder, number] {
            auto result = callback.call(number);
            recorder->record("asked");
            recorder->record(outcome(std::move(result)));
        }).detach();
    }
    std::vector<std::string> ask_here(std::int64_t number) { return outcome(callback_->call(number)); }
    void limit(std::size_t running, std::size_t waiting, const std::string &overflow, double timeout) {
        aiobridge::callback_limit limit{running, waiting, overflow_named(overflow)};
        if (timeout >= 0)
            limit.timeout = std::chrono::nanoseconds(static_cast<std::int64_t>(timeout * 1e9));
        callback_->limit(limit);
    }
    void drop() { callback_.reset(); }
    void drop_in_thread() {
        std::thread([this] { callback_.reset(); }).join();
    }
    std::string reason() const { return name_of(callback_->close_reason()); }

private:
    std::optional<Callback> callback_;
};

/// Threads that take the GIL as fast as they can, until they are refused.
class Takers {
public:
    explicit Takers(int threads) {
        for (int t = 0; t < threads; ++t)
            std::thread([this] {
                for (;;) {
                    try {
                        const aiobridge::gil guard;
                        taken.fetch_add(1);
                        PyErr_CheckSignals(); // something that needs it
                    } catch (const aiobridge::interpreter_exit &) {
                        refused.fetch_add(1);
                        for (;;) // through the process's end
                            if (aiobridge::gil(std::nothrow))
                                std::abort();
                    }
                }
            }).detach();
    }
    std::atomic<std::int64_t> taken{0}, refused{0};
};

/// Asks once more when the interpreter is gone, in a static destructor.
struct AfterPython {
    ~AfterPython() {
        if (asked)
            std::fputs(aiobridge::gil(std::nothrow) ? "taken" : "refused", stdout);
    }
    bool asked = false;
} after_python;

} // namespace

void register_callbacks(py::module_ &m) {
    const py::call_guard<py::gil_scoped_release> release;
    py::class_<Caller, std::shared_ptr<Caller>>(m, "Caller")
        .def(py::init<Callback>())
        .def("fire", &Caller::fire, release)
        .def("fire_with_gil", &Caller::fire)
        .def("fire_in_thread", &Caller::fire_in_thread, release)
        .def("fire_from_threads", &Caller::fire_from_threads, release)
        .def("ask", &Caller::ask)
        .def("ask_and_record", &Caller::ask_and_record)
        .def("ask_here", &Caller::ask_here, release)
        .def("ask_here_with_gil", &Caller::ask_here)
        .def("limit", &Caller::limit, py::arg("running"), py::arg("waiting") = 1024, py::arg("overflow") = "refuse",
             py::arg("timeout") = -1.0)
        .def("drop", &Caller::drop, release)
        .def("drop_in_thread", &Caller::drop_in_thread, release)
        .def_property_readonly("reason", &Caller::reason);

    // Arguments and results of every kind.
    m.def("describe", [](aiobridge::callback<std::string(std::vector<int>, const std::string &, Tracked)> callback) {
        auto [promise, future] = aiobridge::make_promise<std::string>();
        std::thread([callback, promise = promise] {
            try {
                promise.set_value(callback.call({1, 2}, "three", Tracked(4)).get());
            } catch (...) {
                promise.set_exception(std::current_exception());
            }
        }).detach();
        return future;
    });
    m.def("notify", [](aiobridge::callback<void()> callback) {
        auto [promise, future] = aiobridge::make_promise<void>();
        std::thread([callback, promise = promise] {
            callback.call().get();
            promise.set_value();
        }).detach();
        return future;
    });
    m.def("fates_of_empty_callbacks", [] {
        const Callback empty;
        return py::make_tuple(static_cast<bool>(empty), name_of(empty(1)), name_of(empty.close_reason()),
                              outcome(empty.call(1)));
    });

    // A native thread calls a Python function with the GIL, three guards deep; throws with them, if it is told to.
    m.def("call_with_gil", [](py::function function, bool fails) {
        auto [promise, future] = aiobridge::make_promise<std::string>();
        std::thread([held = function.release(), promise = promise, fails] {
            std::string result;
            try {
                const aiobridge::gil outer;
                const auto function = py::reinterpret_steal<py::function>(held);
                {
                    const aiobridge::gil inner;
                    if (fails)
                        throw std::runtime_error("thrown with the GIL");
                }
                const aiobridge::gil again;
                result = py::str(function());
            } catch (const std::runtime_error &error) {
                result = error.what();
            }
            promise.set_value(result + (PyGILState_Check() ? ", still with the GIL" : ", and without it"));
        }).detach();
        return future;
    });
    m.def("gil_within_released_gil", [] {
        const py::gil_scoped_release released;
        const bool before = PyGILState_Check();
        bool within = false;
        {
            const aiobridge::gil guard;
            within = PyGILState_Check();
        }
        return !before && within && !PyGILState_Check();
    });
    m.def("gil_within_gil", [] {
        {
            const aiobridge::gil guard;
        }
        return PyGILState_Check() == 1;
    });
    // In a static destructor, when Python is gone: what was recorded by then, in one line.
    m.def(
        "print_at_exit",
        [](std::shared_ptr<Recorder> recorder, std::size_t count) {
            static struct Last {
                ~Last() {
                    recorder->wait(count); // who was released may still be on its way
                    std::string line;
                    for (const auto &word : recorder->records())
                        line += word + " ";
                    std::fputs(line.c_str(), stdout);
                }
                std::shared_ptr<Recorder> recorder;
                std::size_t count = 0;
            } last;
            last.recorder = std::move(recorder);
            last.count = count;
        },
        py::arg("recorder"), py::arg("count") = 2);
    m.def("ask_after_python", [] { after_python.asked = true; });
    py::class_<Takers>(m, "Takers") // never destroyed: its threads go on
        .def_static("start",
                    [](int threads) { return py::cast(new Takers(threads), py::return_value_policy::reference); })
        .def_property_readonly("taken", [](const Takers &takers) { return takers.taken.load(); });
}
