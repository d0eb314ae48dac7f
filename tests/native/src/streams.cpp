// tests/native/src/streams.cpp: writers and streams
#include "native.h"

#include <optional>
#include <stdexcept>

namespace {

/// Converts only if it is even.
struct Even {
    std::int64_t number;
};

template <class T> class Writer {
public:
    explicit Writer(aiobridge::writer<T> writer) : writer_(std::move(writer)) {}
    std::string push(std::int64_t number) { return name_of(writer_->push(T(number))); }
    /// 0, 1, 2 … from as many threads; returns when all have pushed. `full` is tried again.
    std::vector<std::string> push_all(std::int64_t count, int threads) {
        std::vector<std::thread> running;
        std::mutex mutex;
        std::vector<std::string> refused;
        for (int t = 0; t < threads; ++t)
            running.emplace_back([&, t, writer = *writer_] {
                for (std::int64_t i = 0; i < count; ++i) {
                    auto fate = writer.push(T(i * threads + t));
                    while (fate == aiobridge::fate::full) {
                        std::this_thread::yield();
                        fate = writer.push(T(i * threads + t));
                    }
                    if (fate != aiobridge::fate::accepted && fate != aiobridge::fate::evicted_oldest) {
                        const std::lock_guard lock(mutex);
                        refused.push_back(name_of(fate));
                    }
                }
            });
        for (auto &thread : running)
            thread.join();
        return refused;
    }
    void push_from_thread(std::int64_t count, bool close) {
        std::thread([writer = *writer_, count, close] {
            for (std::int64_t i = 0; i < count; ++i)
                while (writer.push(T(i)) == aiobridge::fate::full)
                    std::this_thread::yield();
            if (close)
                writer.close();
        }).detach();
    }
    bool close() { return writer_->close(); }
    bool fail(const std::string &text) { return writer_->fail(std::runtime_error(text)); }
    std::string reason() const { return name_of(writer_->close_reason()); }
    void drop() { writer_.reset(); }
    std::shared_ptr<Writer> copy() const { return std::make_shared<Writer>(*writer_); }

private:
    std::optional<aiobridge::writer<T>> writer_;
};

template <class T> void bind_stream(py::module_ &m, const char *function, const char *writer_name) {
    using W = Writer<T>;
    const py::call_guard<py::gil_scoped_release> release;
    m.def(
        function,
        [](std::size_t capacity, const std::string &overflow, std::shared_ptr<Recorder> recorder) {
            aiobridge::stream_options<T> options{.capacity = capacity};
            if (overflow == "drop_oldest")
                options.overflow = aiobridge::overflow::drop_oldest;
            else if (overflow != "refuse")
                options.overflow = static_cast<aiobridge::overflow>(77);
            auto [writer, stream] = aiobridge::make_stream<T>(options);
            if (recorder)
                stream.on_close([recorder](aiobridge::close_reason reason) {
                    recorder->record(name_of(reason) + " on " + thread_name() +
                                     (PyGILState_Check() ? " with the GIL" : ""));
                });
            return py::make_tuple(std::make_shared<W>(std::move(writer)), stream);
        },
        py::arg("capacity") = 1024, py::arg("overflow") = "refuse", py::arg("recorder") = nullptr);
    py::class_<W, std::shared_ptr<W>>(m, writer_name)
        .def("push", &W::push, release)
        .def("push_all", &W::push_all, release, py::arg("count"), py::arg("threads") = 1)
        .def("push_from_thread", &W::push_from_thread, release, py::arg("count"), py::arg("close") = true)
        .def("close", &W::close, release)
        .def("fail", &W::fail, release)
        .def("drop", &W::drop, release)
        .def("copy", &W::copy)
        .def_property_readonly("reason", &W::reason);
}

} // namespace

namespace pybind11::detail {
template <> struct type_caster<Even> {
    PYBIND11_TYPE_CASTER(Even, const_name("int"));
    bool load(handle source, bool) {
        value.number = source.cast<std::int64_t>();
        return true;
    }
    static handle cast(const Even &even, return_value_policy, handle) {
        if (even.number % 2)
            throw value_error(std::to_string(even.number) + " is odd");
        return int_(even.number).release();
    }
};
} // namespace pybind11::detail

void register_streams(py::module_ &m) {
    bind_stream<Even>(m, "make_even_stream", "EvenWriter");
    bind_stream<std::int64_t>(m, "make_stream", "Writer");
    bind_stream<Tracked>(m, "make_tracked_stream", "TrackedWriter");

    m.def("numbers", [](std::int64_t count) -> aiobridge::stream<std::int64_t> {
        auto [writer, stream] = aiobridge::make_stream<std::int64_t>({.capacity = 64});
        std::thread([writer = writer, count] {
            for (std::int64_t i = 0; i < count; ++i)
                while (writer.push(i) == aiobridge::fate::full)
                    std::this_thread::yield();
        }).detach();
        return stream;
    });
    m.def("stream_twice", [] {
        auto [writer, stream] = aiobridge::make_stream<int>();
        return py::make_tuple(stream, stream);
    });
    // An event, then the result, both of one thread.
    m.def("event_then_result", [] {
        auto [writer, stream] = aiobridge::make_stream<std::int64_t>();
        auto [promise, future] = aiobridge::make_promise<std::int64_t>();
        std::thread([writer = writer, promise = promise] {
            writer.push(1);
            promise.set_value(2);
        }).detach();
        return py::make_tuple(stream, future);
    });
}
