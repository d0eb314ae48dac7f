// A queue that carries Python callables between native threads: posted on one, popped and called on another.
#include <aiobridge/pybind11.h>

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace py = pybind11;

class WorkQueue {
public:
    using Work = aiobridge::callback<void()>;

    explicit WorkQueue(std::size_t threads) {
        for (std::size_t i = 0; i < threads; ++i)
            threads_.emplace_back([this] {
                while (const Work work = pop())
                    work(); // runs on the loop; the copy dies here, without the GIL
            });
    }
    void post(Work work) {
        {
            const std::lock_guard lock(mutex_);
            waiting_.push_back(std::move(work));
        }
        changed_.notify_one();
    }
    // Waits for the threads, which first empty the queue. Without the GIL, which they do not need either.
    void close() {
        {
            const std::lock_guard lock(mutex_);
            closed_ = true;
        }
        changed_.notify_all();
        threads_.clear();
    }

private:
    // An empty one at the end.
    Work pop() {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return closed_ || !waiting_.empty(); });
        if (waiting_.empty())
            return {};
        Work work = std::move(waiting_.front());
        waiting_.pop_front();
        return work;
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<Work> waiting_;
    bool closed_ = false;
    std::vector<std::jthread> threads_;
};

void register_work_queue(py::module_ &m) {
    py::class_<WorkQueue, std::shared_ptr<WorkQueue>>(m, "WorkQueue")
        .def(py::init<std::size_t>(), py::arg("threads"))
        .def("post", &WorkQueue::post, py::arg("work"))
        .def("close", &WorkQueue::close, py::call_guard<py::gil_scoped_release>());
}
