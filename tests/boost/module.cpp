// tests/boost/module.cpp: the question as it was asked, with Boost.Thread and Boost.Asio's thread pool
#include <aiobridge/pybind11.h>

#include <boost/asio.hpp>
#include <boost/thread.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

namespace py = pybind11;
namespace asio = boost::asio;

namespace {

/// Work and timers on Asio's threads.
class Pool {
public:
    explicit Pool(std::size_t threads) : pool_(threads) {}
    void post(aiobridge::callback<void()> work) {
        asio::post(pool_, [work] { work(); });
    }
    void call_later(double seconds, aiobridge::callback<void(std::string)> callback) {
        auto timer =
            std::make_shared<asio::steady_timer>(pool_, std::chrono::microseconds(static_cast<long>(seconds * 1e6)));
        timer->async_wait([timer, callback](const boost::system::error_code &) { callback("spam"); });
    }
    /// Asio's thread waits for Python's answer.
    aiobridge::future<std::int64_t> ask(std::int64_t number, aiobridge::callback<std::int64_t(std::int64_t)> callback) {
        auto [promise, future] = aiobridge::make_promise<std::int64_t>();
        asio::post(pool_, [number, callback, promise = promise] {
            try {
                promise.set_value(callback.call(number).get());
            } catch (const std::exception &) {
                promise.set_exception(std::current_exception());
            }
        });
        return future;
    }
    aiobridge::stream<std::int64_t> count(std::int64_t events, int strands) {
        auto [writer, stream] =
            aiobridge::make_stream<std::int64_t>({.capacity = 64, .overflow = aiobridge::overflow::block});
        for (int s = 0; s < strands; ++s)
            asio::post(pool_, [writer = writer, events, strands, s] {
                for (std::int64_t i = 0; i < events; ++i)
                    writer.push(i * strands + s);
            });
        return stream;
    }
    void join() { pool_.join(); }

private:
    asio::thread_pool pool_;
};

} // namespace

PYBIND11_MODULE(boost_threads, m, py::mod_gil_not_used()) {
    m.def("call_later", [](double seconds, aiobridge::callback<void(std::string)> callback) {
        boost::thread([seconds, callback] {
            boost::this_thread::sleep_for(boost::chrono::duration<double>(seconds));
            callback("spam");
        }).detach();
    });
    py::class_<Pool, std::shared_ptr<Pool>>(m, "Pool")
        .def(py::init<std::size_t>())
        .def("post", &Pool::post)
        .def("call_later", &Pool::call_later)
        .def("ask", &Pool::ask)
        .def("count", &Pool::count)
        .def("join", &Pool::join, py::call_guard<py::gil_scoped_release>());
}
