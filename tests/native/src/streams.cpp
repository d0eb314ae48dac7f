// tests/native/src/streams.cpp: writers and streams
#include "native.h"

#include <optional>
#include <stdexcept>

namespace {

/// A record that numpy can hold, and one that it cannot, because nobody told it how.
struct Tick {
    explicit Tick(std::int64_t number) : ns(number), price(static_cast<double>(number) / 2), size(1) {}
    std::int64_t ns;
    double price;
    std::int32_t size;
};
struct Undeclared {
    explicit Undeclared(std::int64_t number_) : number(number_) {}
    std::int64_t number;
};

std::int64_t number_in(std::int64_t event) { return event; }
std::int64_t number_in(const Tracked &event) { return event.number; }
template <class T> std::int64_t number_in(const T &) { return 0; }

/// Converts only if it is even.
struct Even {
    std::int64_t number;
};

/// What Python sees of a writer, whatever it writes. (Binding one class for each type would triple the time that this
/// file takes to compile.)
class AnyWriter {
public:
    virtual ~AnyWriter() = default;
    virtual std::string push(std::int64_t number) = 0;
    virtual std::string push_in_thread(std::int64_t number) = 0;
    virtual std::pair<std::size_t, std::string> push_many(std::int64_t first, std::size_t count) = 0;
    virtual std::int64_t push_and_look(std::int64_t number) = 0;
    virtual std::vector<std::string> push_all(std::int64_t count, int threads) = 0;
    virtual void push_from_thread(std::int64_t count, bool close) = 0;
    virtual void push_and_record(std::int64_t number, std::shared_ptr<Recorder> recorder) = 0;
    virtual bool close() = 0;
    virtual bool fail(const std::string &text) = 0;
    virtual bool abort(const std::optional<std::string> &text) = 0;
    virtual bool ready() const = 0;
    virtual void on_ready(std::shared_ptr<Recorder> recorder) = 0;
    virtual void drop_in_unwinding() = 0;
    virtual std::string reason() const = 0;
    virtual void drop() = 0;
    virtual std::shared_ptr<AnyWriter> copy() const = 0;
};

template <class T> class Writer final : public AnyWriter {
public:
    explicit Writer(aiobridge::writer<T> writer) : writer_(std::move(writer)) {}
    std::string push(std::int64_t number) override { return name_of(writer_->push(T(number))); }
    std::string push_in_thread(std::int64_t number) override {
        aiobridge::fate fate{};
        std::thread([&] { fate = writer_->push(T(number)); }).join();
        return name_of(fate);
    }
    /// In a thread: how many are taken, and the fate of the last one that was tried.
    std::pair<std::size_t, std::string> push_many(std::int64_t first, std::size_t count) override {
        std::vector<T> events;
        for (std::size_t i = 0; i < count; ++i)
            events.push_back(T(first + static_cast<std::int64_t>(i)));
        aiobridge::pushed pushed{};
        std::thread([&] { pushed = writer_->push_many(events); }).join();
        return {pushed.taken, name_of(pushed.fate)};
    }
    /// The number of a refused event afterwards.
    std::int64_t push_and_look(std::int64_t number) override {
        T event(number);
        writer_->push(std::move(event));
        return number_in(event);
    }
    /// 0, 1, 2 … from as many threads; returns when all have pushed. `full` is tried again.
    std::vector<std::string> push_all(std::int64_t count, int threads) override {
        std::vector<std::thread> running;
        std::mutex mutex;
        std::vector<std::string> refused;
        for (int t = 0; t < threads; ++t)
            running.emplace_back([&, t, writer = *writer_] {
                for (std::int64_t i = 0; i < count; ++i) {
                    T event(i * threads + t);
                    auto fate = writer.push(std::move(event));
                    while (fate == aiobridge::fate::full) {
                        std::this_thread::yield();
                        fate = writer.push(std::move(event));
                    }
                    if (fate > aiobridge::fate::merged) {
                        const std::lock_guard lock(mutex);
                        refused.push_back(name_of(fate));
                    }
                }
            });
        for (auto &thread : running)
            thread.join();
        return refused;
    }
    void push_from_thread(std::int64_t count, bool close) override {
        std::thread([writer = *writer_, count, close] {
            for (std::int64_t i = 0; i < count; ++i)
                while (writer.push(T(i)) == aiobridge::fate::full)
                    std::this_thread::yield();
            if (close)
                writer.close();
        }).detach();
    }
    bool close() override { return writer_->close(); }
    bool fail(const std::string &text) override { return writer_->fail(std::runtime_error(text)); }
    bool abort(const std::optional<std::string> &text) override {
        return text ? writer_->abort(std::runtime_error(*text)) : writer_->abort();
    }
    bool ready() const override { return writer_->ready(); }
    void on_ready(std::shared_ptr<Recorder> recorder) override {
        writer_->on_ready([recorder](aiobridge::close_reason reason) {
            recorder->record(name_of(reason) + " on " + thread_name() + (PyGILState_Check() ? " with the GIL" : ""));
        });
    }
    void push_and_record(std::int64_t number, std::shared_ptr<Recorder> recorder) override {
        std::thread([writer = *writer_, number, recorder] {
            recorder->record("pushing");
            const auto fate = writer.push(T(number));
            recorder->record(name_of(fate) + " " + name_of(writer.close_reason()));
        }).detach();
    }
    /// The last writer goes with the frame that an exception leaves.
    void drop_in_unwinding() override {
        try {
            const auto writer = std::move(*writer_);
            writer_.reset();
            throw std::runtime_error("the producer failed");
        } catch (const std::runtime_error &) {
        }
    }
    std::string reason() const override { return name_of(writer_->close_reason()); }
    void drop() override { writer_.reset(); }
    std::shared_ptr<AnyWriter> copy() const override { return std::make_shared<Writer>(*writer_); }

private:
    std::optional<aiobridge::writer<T>> writer_;
};

template <class T> void bind_stream(py::module_ &m, const char *function) {
    m.def(
        function,
        [](std::size_t capacity, const std::string &overflow, std::shared_ptr<Recorder> recorder, double timeout,
           std::size_t high, std::size_t low, bool merge, std::shared_ptr<Recorder> undelivered) {
            aiobridge::stream_options<T> options{.capacity = capacity,
                                                 .overflow = overflow_named(overflow),
                                                 .high_watermark = high,
                                                 .low_watermark = low};
            if (timeout >= 0)
                options.timeout = std::chrono::nanoseconds(static_cast<std::int64_t>(timeout * 1e9));
            if (merge)
                options.merge = [](T &into, T &&from) noexcept { into = std::move(from); };
            auto [writer, stream] = aiobridge::make_stream<T>(options);
            if (undelivered)
                stream.on_undelivered([undelivered](T &&event) {
                    undelivered->record(std::to_string(number_in(event)) + " on " + thread_name());
                });
            if (recorder)
                stream.on_close([recorder](aiobridge::close_reason reason) {
                    recorder->record(name_of(reason) + " on " + thread_name() +
                                     (PyGILState_Check() ? " with the GIL" : ""));
                });
            return py::make_tuple(std::shared_ptr<AnyWriter>(std::make_shared<Writer<T>>(std::move(writer))), stream);
        },
        py::arg("capacity") = 1024, py::arg("overflow") = "refuse", py::arg("recorder") = nullptr,
        py::arg("timeout") = -1.0, py::arg("high") = 0, py::arg("low") = 0, py::arg("merge") = true,
        py::arg("undelivered") = nullptr);
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
    using W = AnyWriter;
    const py::call_guard<py::gil_scoped_release> release;
    py::class_<W, std::shared_ptr<W>>(m, "Writer")
        .def("push", &W::push, release)
        .def("push_with_gil", &W::push)
        .def("push_in_thread", &W::push_in_thread, release)
        .def("push_many", &W::push_many, release, py::arg("first"), py::arg("count"))
        .def("push_and_record", &W::push_and_record, release)
        .def("push_and_look", &W::push_and_look, release)
        .def("abort", &W::abort, release, py::arg("text") = py::none())
        .def_property_readonly("ready", &W::ready)
        .def("on_ready", &W::on_ready)
        .def("drop_in_unwinding", &W::drop_in_unwinding, release)
        .def("push_all", &W::push_all, release, py::arg("count"), py::arg("threads") = 1)
        .def("push_from_thread", &W::push_from_thread, release, py::arg("count"), py::arg("close") = true)
        .def("close", &W::close, release)
        .def("fail", &W::fail, release)
        .def("drop", &W::drop, release)
        .def("copy", &W::copy)
        .def_property_readonly("reason", &W::reason);

    bind_stream<Even>(m, "make_even_stream");
    bind_stream<std::int64_t>(m, "make_stream");
    bind_stream<Tracked>(m, "make_tracked_stream");
    py::class_<Tick>(m, "Tick")
        .def_readonly("ns", &Tick::ns)
        .def_readonly("price", &Tick::price)
        .def_readonly("size", &Tick::size);
    bind_stream<Tick>(m, "make_tick_stream");
    // Imports numpy, so not at this module's import: tests look whether aiobridge does.
    m.def("declare_tick", [] {
        static bool declared = false;
        if (!std::exchange(declared, true))
            PYBIND11_NUMPY_DTYPE(Tick, ns, price, size);
    });
    py::class_<Undeclared>(m, "Undeclared");
    bind_stream<Undeclared>(m, "make_undeclared_stream");
    // A stream that never gets to Python, whose producer waits for room.
    m.def("block_without_a_loop", [](std::shared_ptr<Recorder> recorder) {
        static std::optional<aiobridge::stream<int>> kept;
        auto [writer, stream] = aiobridge::make_stream<int>({.capacity = 1, .overflow = aiobridge::overflow::block});
        kept.emplace(stream);
        std::thread([writer = writer, recorder] {
            writer.push(0);
            recorder->record("pushing");
            const auto fate = writer.push(1);
            recorder->record(name_of(fate) + " " + name_of(writer.close_reason()));
        }).detach();
    });
    m.def("undelivered_twice", [] {
        auto [writer, stream] = aiobridge::make_stream<int>();
        stream.on_undelivered([](int) {});
        stream.on_undelivered([](int) {});
    });

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
