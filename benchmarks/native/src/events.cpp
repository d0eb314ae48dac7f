// benchmarks/native/src/events.cpp: many events from native threads, bridged in each way
#include "bench.h"
#include "sdk.h"
#include "snippet.h"

#include <aiobridge/pybind11_record.h>
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <span>
#include <thread>
#include <utility>
#include <vector>

namespace py = pybind11;

namespace {

/// The same, and what it is in Python costs less to make.
struct RecordedTick : Tick {};

} // namespace

AIOBRIDGE_RECORD(RecordedTick, "bench_native.RecordedTick");

namespace {

template <class T> T event(std::int64_t number);
template <> std::int64_t event(std::int64_t number) { return number; }
template <> RecordedTick event(std::int64_t number) { return {{number, static_cast<double>(number) / 2, 1}}; }
template <> Tick event(std::int64_t number) { return {number, static_cast<double>(number) / 2, 1}; }

/// The threads drop their writers when they are done, which ends the stream.
template <class T>
aiobridge::stream<T> stream_of(std::int64_t count, int producers, std::size_t capacity, bool unbounded) {
    auto [writer, stream] = aiobridge::make_stream<T>(
        {.capacity = capacity, .overflow = unbounded ? aiobridge::overflow::unbounded : aiobridge::overflow::block});
    for (int producer = 0; producer < producers; ++producer)
        std::thread([writer = writer, count, producers] {
            for (std::int64_t i = 0; i < count / producers; ++i)
                writer.push(event<T>(i));
        }).detach();
    return stream;
}

/// As a feed has them: so many at a time.
aiobridge::stream<Tick> packets_of_ticks(std::size_t count, int producers, std::size_t capacity, std::size_t at_once) {
    auto [writer, stream] =
        aiobridge::make_stream<Tick>({.capacity = capacity, .overflow = aiobridge::overflow::block});
    for (int producer = 0; producer < producers; ++producer)
        std::thread([writer = writer, share = count / producers, at_once] {
            const std::vector<Tick> packet(at_once, event<Tick>(1));
            for (std::size_t pushed = 0; pushed < share;)
                pushed += writer.push_many(std::span(packet).first(std::min(at_once, share - pushed))).taken;
        }).detach();
    return stream;
}

/// All of it is there before Python looks.
template <class T> aiobridge::stream<T> full_stream(std::int64_t count) {
    auto [writer, stream] = aiobridge::make_stream<T>({.capacity = static_cast<std::size_t>(count)});
    for (std::int64_t i = 0; i < count; ++i)
        writer.push(event<T>(i));
    return stream;
}

/// Streams that stay open; the library's thread pushes to all of them in turns.
class Streams {
public:
    explicit Streams(std::size_t count) {
        for (std::size_t i = 0; i < count; ++i) {
            auto [writer, stream] = aiobridge::make_stream<std::int64_t>({.capacity = 64});
            writers_.push_back(std::move(writer));
            streams_.push_back(std::move(stream));
        }
    }
    const std::vector<aiobridge::stream<std::int64_t>> &streams() const { return streams_; }
    void push(int events) const {
        sdk().ask([writers = writers_, events] {
            for (int i = 0; i < events; ++i)
                for (const auto &writer : writers)
                    writer.push(i);
        });
    }
    void close() const {
        for (const auto &writer : writers_)
            writer.close();
    }

private:
    std::vector<aiobridge::writer<std::int64_t>> writers_;
    std::vector<aiobridge::stream<std::int64_t>> streams_;
};

void push_by_hand(const py::object &loop, const py::object &queue, std::int64_t count, int producers, bool keep) {
    for (int producer = 0; producer < producers; ++producer) {
        // Its references go where the GIL is, so the thread deletes it there.
        auto *writer = new HandWrittenWriter(loop, queue);
        std::thread([writer, count, producers, keep] {
            if (keep)
                keep_thread_state();
            for (std::int64_t i = 0; i < count / producers; ++i)
                writer->push(i);
            const py::gil_scoped_acquire gil;
            delete writer;
        }).detach();
    }
}

/// Each thread fills an array's worth of records without the GIL, and hands it over with the GIL.
void push_arrays_by_hand(const py::object &loop, const py::object &queue, std::size_t count, int producers,
                         std::size_t at_once) {
    for (int producer = 0; producer < producers; ++producer) {
        auto *writer = new HandWrittenWriter(loop, queue);
        std::thread([writer, share = count / producers, at_once] {
            keep_thread_state();
            std::vector<Tick> records;
            for (std::size_t pushed = 0; pushed < share; pushed += records.size()) {
                records.clear();
                for (std::size_t i = pushed; i < std::min(pushed + at_once, share); ++i)
                    records.push_back(event<Tick>(static_cast<std::int64_t>(i)));
                const py::gil_scoped_acquire gil;
                writer->push(py::array_t<Tick>(static_cast<py::ssize_t>(records.size()), records.data()));
            }
            const py::gil_scoped_acquire gil;
            delete writer;
        }).detach();
    }
}

} // namespace

void register_events(py::module_ &m) {
    PYBIND11_NUMPY_DTYPE(Tick, ns, price, size);
    py::class_<Tick>(m, "Tick")
        .def_readonly("ns", &Tick::ns)
        .def_readonly("price", &Tick::price)
        .def_readonly("size", &Tick::size);
    aiobridge::record<RecordedTick>(
        m, {{"ns", &RecordedTick::ns}, {"price", &RecordedTick::price}, {"size", &RecordedTick::size}});
    const auto count = py::arg("count"), producers = py::arg("producers");
    m.def("ints", &stream_of<std::int64_t>, count, producers, py::arg("capacity") = 1024, py::arg("unbounded") = true);
    m.def("ticks", &stream_of<Tick>, count, producers, py::arg("capacity") = 1024, py::arg("unbounded") = true);
    m.def("recorded_ticks", &stream_of<RecordedTick>, count, producers, py::arg("capacity") = 1024,
          py::arg("unbounded") = true);
    m.def("packets_of_ticks", &packets_of_ticks, count, producers, py::arg("capacity"), py::arg("at_once"));
    m.def("full_of_ints", &full_stream<std::int64_t>, count);
    m.def("full_of_ticks", &full_stream<Tick>, count);
    m.def("full_of_recorded_ticks", &full_stream<RecordedTick>, count);
    py::class_<Streams>(m, "Streams")
        .def(py::init<std::size_t>(), py::arg("count"))
        .def("streams", &Streams::streams)
        .def("push", &Streams::push, py::arg("events"))
        .def("close", &Streams::close);
    m.def("push_by_hand", &push_by_hand, py::arg("loop"), py::arg("queue"), count, producers,
          py::arg("keep_thread_state") = false);
    m.def("push_arrays_by_hand", &push_arrays_by_hand, py::arg("loop"), py::arg("queue"), count, producers,
          py::arg("at_once"));
}
