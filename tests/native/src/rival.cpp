// tests/native/src/rival.cpp: the native side of a race
#include "native.h"

#include <optional>
#include <stdexcept>

namespace {

using Callback = aiobridge::callback<std::int64_t(std::int64_t)>;
using Words = std::vector<std::string>;

/// A capsule of a core that can stop its threads: ext/core/pausing.cpp.
struct Held {
    bool (*wait)(double seconds) noexcept;
    void (*release)() noexcept;
};

std::atomic<std::uint64_t> sink{0};
void spin(std::uint64_t turns) {
    for (; turns; --turns)
        sink.store(turns, std::memory_order_relaxed);
}

/// Makes the objects of a round, and does one thing with them: at once, or on a thread of its own after so many turns,
/// or when the core holds another thread, which then goes on.
class Rival {
public:
    Rival() : thread_([this] { run(); }) {}
    ~Rival() {
        start("end", 0);
        thread_.join();
    }

    aiobridge::future<Tracked> promise(bool keep_future) {
        auto [promise, future] = aiobridge::make_promise<Tracked>();
        promise.on_cancel(Hook(*this));
        promise_.emplace(std::move(promise));
        future_.reset();
        if (keep_future)
            future_.emplace(future);
        return future;
    }
    aiobridge::stream<Tracked> stream(std::size_t capacity, const std::string &overflow, double timeout) {
        aiobridge::stream_options<Tracked> options{.capacity = capacity, .overflow = overflow_named(overflow)};
        if (timeout >= 0)
            options.timeout = std::chrono::nanoseconds(static_cast<std::int64_t>(timeout * 1e9));
        options.merge = [](Tracked &into, Tracked &&from) noexcept { into = std::move(from); };
        auto [writer, stream] = aiobridge::make_stream<Tracked>(options);
        stream.on_close(Hook(*this));
        stream.on_undelivered([this](Tracked &&) { undelivered.fetch_add(1); });
        other_.emplace(writer);
        writer_.emplace(std::move(writer));
        number_ = 0;
        return stream;
    }
    void take(Callback callback) { callback_.emplace(std::move(callback)); }

    /// On this thread. The words are fates, or what else came of it.
    Words act(const std::string &what) {
        if (what == "set")
            return {name_of(promise_->set_value(Tracked(7)))};
        if (what == "fail")
            return {name_of(promise_->set_exception(std::runtime_error("failed")))};
        if (what == "cancel")
            return future_->cancel(), Words{};
        if (what == "push")
            return {name_of(writer_->push(Tracked(number_++)))};
        if (what == "push three")
            return {name_of(writer_->push(Tracked(number_++))), name_of(writer_->push(Tracked(number_++))),
                    name_of(writer_->push(Tracked(number_++)))};
        if (what == "close")
            return {other_->close() ? "ended" : "too late"};
        if (what == "fail stream")
            return {other_->fail(std::runtime_error("failed")) ? "ended" : "too late"};
        if (what == "abort")
            return {other_->abort() ? "ended" : "too late"};
        if (what == "call")
            return {name_of((*callback_)(1))};
        if (what == "ask")
            return ask();
        if (what == "drop") {
            promise_.reset();
            writer_.reset();
            callback_.reset();
            return {};
        }
        throw std::invalid_argument(what);
    }
    /// Lets go of everything.
    void drop() {
        act("drop");
        other_.reset();
        future_.reset();
    }
    void start(std::string what, std::uint64_t turns) {
        what_ = std::move(what);
        turns_ = turns;
        held_ = nullptr;
        tell(begun);
    }
    void start_when_held(const py::capsule &held, std::string what) {
        what_ = std::move(what);
        turns_ = 0;
        held_ = held.get_pointer<Held>();
        tell(begun);
    }
    Words join() {
        for (int state = state_; state != idle; state = state_)
            state_.wait(state);
        return words_;
    }
    std::atomic<std::int64_t> undelivered{0}, hooks_run{0}, hooks_destroyed{0};
    std::atomic<int> reason{0};

private:
    /// Runs and dies on the hook thread.
    class Hook {
    public:
        explicit Hook(Rival &rival) : rival_(&rival, ended) {}
        void operator()(aiobridge::close_reason reason) {
            rival_->reason = static_cast<int>(reason);
            rival_->hooks_run.fetch_add(1);
        }

    private:
        static void ended(Rival *rival) { rival->hooks_destroyed.fetch_add(1); }
        std::shared_ptr<Rival> rival_; // which is not freed with it
    };

    Words ask() {
        try {
            return {"value", std::to_string(callback_->call(1).get())};
        } catch (const aiobridge::python_error &error) {
            return {"raised", error.type()};
        } catch (const aiobridge::call_refused &refused) {
            return {"refused", name_of(refused.reason())};
        }
    }
    void tell(int state) {
        state_ = state;
        state_.notify_all();
    }
    void run() {
        for (;;) {
            state_.wait(idle);
            if (what_ == "end")
                return;
            spin(turns_);
            const bool held = held_ && held_->wait(20);
            words_ = act(what_);
            if (held)
                held_->release();
            tell(idle);
        }
    }

    static constexpr int idle = 0, begun = 1;
    std::atomic<int> state_{idle};
    std::string what_;
    std::uint64_t turns_ = 0;
    Held *held_ = nullptr;
    Words words_;
    std::optional<aiobridge::promise<Tracked>> promise_;
    std::optional<aiobridge::future<Tracked>> future_;
    std::optional<aiobridge::writer<Tracked>> writer_, other_;
    std::optional<Callback> callback_;
    std::int64_t number_ = 0;
    std::thread thread_; // last: it uses all the others
};

} // namespace

void register_rival(py::module_ &m) {
    const py::call_guard<py::gil_scoped_release> release;
    py::class_<Rival>(m, "Rival")
        .def(py::init())
        .def("promise", &Rival::promise, py::arg("keep_future") = false)
        .def("stream", &Rival::stream, py::arg("capacity"), py::arg("overflow"), py::arg("timeout") = -1.0)
        .def("take", &Rival::take)
        .def("act", &Rival::act, release)
        .def("drop", &Rival::drop, release)
        .def("start", &Rival::start, py::arg("what"), py::arg("turns") = 0)
        .def("start_when_held", &Rival::start_when_held)
        .def("join", &Rival::join, release)
        .def_property_readonly("undelivered", [](const Rival &rival) { return rival.undelivered.load(); })
        .def_property_readonly("hooks_run", [](const Rival &rival) { return rival.hooks_run.load(); })
        .def_property_readonly("hooks_destroyed", [](const Rival &rival) { return rival.hooks_destroyed.load(); })
        .def_property_readonly("reason", [](const Rival &rival) {
            return name_of(static_cast<aiobridge::close_reason>(rival.reason.load()));
        });
    m.def("spin", &spin); // with the GIL
}
