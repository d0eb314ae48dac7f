// tests/native/src/faults.cpp: native libraries that do what bridges break on
#include "native.h"

#include <latch>
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
