// tests/native/src/faults.cpp: native libraries that do what bridges break on
#include "native.h"

#include <barrier>
#include <iterator>
#include <latch>
#include <memory>
#include <optional>

namespace {

/// A library with one mutex, which it holds while it calls back, and which every call into it takes.
class Library {
public:
    explicit Library(int posts) : posts_(posts) {}

    /// Its own thread posts `posts` times with the mutex held; first it waits until another thread wants the mutex.
    aiobridge::stream<std::int64_t> start() {
        auto [writer, stream] = aiobridge::make_stream<std::int64_t>({.capacity = static_cast<std::size_t>(posts_)});
        auto [promise, future] = aiobridge::make_promise<std::int64_t>();
        future_.emplace(future);
        std::thread([this, writer = writer, promise = promise] {
            const std::lock_guard lock(mutex_);
            held_.count_down();
            wanted_.wait();
            for (int i = 0; i < posts_; ++i)
                writer.push(i);
            promise.set_value(posts_);
        }).detach();
        return stream;
    }
    aiobridge::future<std::int64_t> result() { return *future_; }
    /// A careless binding: takes the mutex with the GIL held.
    void enter_with_gil() {
        held_.wait();
        wanted_.count_down();
        const std::lock_guard lock(mutex_);
    }

private:
    const int posts_;
    std::mutex mutex_;
    std::latch held_{1}, wanted_{1};
    std::optional<aiobridge::future<std::int64_t>> future_;
};

/// Posts from its own threads for ever, through the process's end.
void flood(aiobridge::writer<std::int64_t> writer, int threads) {
    for (int t = 0; t < threads; ++t)
        std::thread([writer] {
            for (std::int64_t i = 0;; ++i) {
                writer.push(i);
                auto [promise, future] = aiobridge::make_promise<std::int64_t>();
                promise.set_value(i);
            }
        }).detach();
}

/// Completes operations from threads of its own, as fast as they are made.
class Server {
public:
    explicit Server(int threads) {
        for (int t = 0; t < threads; ++t)
            std::thread([this] {
                for (;;) {
                    std::optional<aiobridge::promise<std::int64_t>> promise;
                    {
                        std::unique_lock lock(mutex_);
                        work_.wait(lock, [this] { return !queue_.empty(); });
                        promise.emplace(std::move(queue_.back()));
                        queue_.pop_back();
                    }
                    promise->set_value(1);
                }
            }).detach();
    }
    aiobridge::future<std::int64_t> ask() {
        auto [promise, future] = aiobridge::make_promise<std::int64_t>();
        {
            const std::lock_guard lock(mutex_);
            queue_.push_back(std::move(promise));
        }
        work_.notify_one();
        return future;
    }

private:
    std::mutex mutex_;
    std::condition_variable work_;
    std::vector<aiobridge::promise<std::int64_t>> queue_;
};

/// Threads that post to a loop that is closed under them: each must be refused from some moment on, and then always.
class ClosingRace {
public:
    explicit ClosingRace(int threads) : starting_(threads + 1) {
        for (int t = 0; t < threads; ++t)
            parts_.push_back(std::make_unique<Part>());
        for (const auto &part : parts_)
            for (int i = 0; i < 20; ++i)
                part->results.push_back(aiobridge::make_promise<Tracked>());
    }
    std::vector<aiobridge::stream<Tracked>> streams() const {
        std::vector<aiobridge::stream<Tracked>> all;
        for (const auto &part : parts_)
            all.push_back(part->events.second);
        return all;
    }
    std::vector<aiobridge::future<Tracked>> futures() const {
        std::vector<aiobridge::future<Tracked>> all;
        for (const auto &part : parts_)
            for (const auto &[promise, future] : part->results)
                all.push_back(future);
        return all;
    }
    /// Returns when all threads are about to post.
    void start() {
        for (auto &part : parts_)
            part->thread = std::thread([this, &part = *part] {
                starting_.arrive_and_wait();
                post(part);
            });
        starting_.arrive_and_wait();
    }
    /// When all have been refused: whether any was taken again after that.
    bool join() {
        bool taken_again = false;
        for (auto &part : parts_) {
            part->thread.join();
            taken_again = taken_again || part->taken_again;
        }
        parts_.clear();
        return taken_again;
    }

private:
    struct Part {
        std::pair<aiobridge::writer<Tracked>, aiobridge::stream<Tracked>> events =
            aiobridge::make_stream<Tracked>({.capacity = 64, .overflow = aiobridge::overflow::drop_oldest});
        std::vector<std::pair<aiobridge::promise<Tracked>, aiobridge::future<Tracked>>> results;
        bool taken_again = false;
        std::thread thread;
    };
    static void post(Part &part) {
        for (std::int64_t i = 0, refused = 0; refused < 100; ++i) {
            if (part.events.first.push(Tracked(i)) == aiobridge::fate::closed)
                ++refused;
            else
                part.taken_again = part.taken_again || refused;
            if (i % 16 == 0 && i / 16 < std::ssize(part.results))
                part.results[i / 16].first.set_value(Tracked(i));
        }
    }
    std::vector<std::unique_ptr<Part>> parts_;
    std::barrier<> starting_;
};

/// 1,000 posts of a thread of its own; `finished` tells when the last has returned.
class Poster {
public:
    std::vector<aiobridge::future<std::int64_t>> start(int count) {
        std::vector<aiobridge::promise<std::int64_t>> promises;
        std::vector<aiobridge::future<std::int64_t>> futures;
        for (int i = 0; i < count; ++i) {
            auto [promise, future] = aiobridge::make_promise<std::int64_t>();
            promises.push_back(promise);
            futures.push_back(future);
        }
        std::thread([this, promises = std::move(promises)]() mutable {
            go_.wait();
            for (std::size_t i = 0; i < promises.size(); ++i)
                promises[i].set_value(static_cast<std::int64_t>(i));
            promises.clear();
            finished_.store(true);
        }).detach();
        return futures;
    }
    void go() { go_.count_down(); }
    bool finished() const { return finished_.load(); }

private:
    std::latch go_{1};
    std::atomic<bool> finished_{false};
};

} // namespace

void register_faults(py::module_ &m) {
    py::class_<Library, std::shared_ptr<Library>>(m, "Library")
        .def(py::init<int>())
        .def("start", &Library::start)
        .def("result", &Library::result)
        .def("enter_with_gil", &Library::enter_with_gil);
    py::class_<Poster, std::shared_ptr<Poster>>(m, "Poster")
        .def(py::init())
        .def("start", &Poster::start)
        .def("go", &Poster::go)
        .def_property_readonly("finished", &Poster::finished);
    const py::call_guard<py::gil_scoped_release> release;
    py::class_<ClosingRace>(m, "ClosingRace")
        .def(py::init<int>())
        .def("streams", &ClosingRace::streams)
        .def("futures", &ClosingRace::futures)
        .def("start", &ClosingRace::start, release)
        .def("join", &ClosingRace::join, release);
    m.def("flood", [](int threads) {
        auto [writer, stream] =
            aiobridge::make_stream<std::int64_t>({.capacity = 64, .overflow = aiobridge::overflow::drop_oldest});
        flood(writer, threads);
        return stream;
    });
    // Never destroyed: its threads use it for ever.
    py::class_<Server, std::unique_ptr<Server, py::nodelete>>(m, "Server").def("ask", &Server::ask);
    m.def("make_server", [](int threads) { return new Server(threads); }, py::return_value_policy::reference);
    // Memory of a thread that ends as the process does: its destructor posts when no interpreter is left.
    static std::optional<aiobridge::writer<std::int64_t>> *last = new std::optional<aiobridge::writer<std::int64_t>>;
    static struct AtEnd {
        ~AtEnd() {
            if (*last && (*last)->push(0) == aiobridge::fate::closed)
                std::fputs(("after exit: " + name_of((*last)->close_reason()) + "\n").c_str(), stdout);
        }
    } at_end;
    m.def("post_at_process_end", [] {
        auto [writer, stream] = aiobridge::make_stream<std::int64_t>();
        last->emplace(writer);
        return stream;
    });
}
