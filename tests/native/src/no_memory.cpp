// tests/native/src/no_memory.cpp: native calls without the memory that they ask for
//
// Only the thread that makes the call is short of memory, and only meanwhile, so that nothing else is tested.
#include "native.h"

#include <dlfcn.h>

#include <map>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace {

using Callback = aiobridge::callback<std::int64_t(std::int64_t)>;

/// From the library that the process was started with.
template <class F> F *injector(const char *name) {
    auto *function = reinterpret_cast<F *>(::dlsym(RTLD_DEFAULT, name));
    if (!function)
        throw std::runtime_error(std::string("there is no ") + name + ": the allocator is the system's own");
    return function;
}

/// What the n-th allocation of a call, and with `all` each after it, gets is nothing.
class Shortage {
public:
    Shortage(long n, bool all) : n_(n), all_(all) {}
    void begin() const { begin_(n_, all_); }
    long end() const { return end_(); }

    /// What came of the call, on a thread of its own, and how many of its allocations failed.
    std::pair<std::string, long> during(const std::function<aiobridge::fate()> &call) const {
        std::string outcome;
        long failed = 0;
        std::thread([&] {
            const auto word = [&](const char *text) {
                failed = end();
                outcome = text;
            };
            try {
                throw 0; // a thread's first exception allocates what glibc does not do without
            } catch (int) {
            }
            begin();
            try {
                const auto fate = call();
                failed = end();
                outcome = name_of(fate);
            } catch (const std::bad_alloc &) {
                word("bad_alloc");
            } catch (const std::system_error &) {
                word("system_error");
            }
        }).join();
        return {outcome, failed};
    }

private:
    void (*const begin_)(long, int) = injector<void(long, int)>("fail_allocation");
    long (*const end_)() = injector<long()>("stop_failing");
    const long n_;
    const bool all_;
};

template <class Reason> void ignore(Reason) {}

/// What the calls are made on: there before the shortage, and until after it. Its consumers are in Python, on a loop
/// that sleeps meanwhile: a call that gives them something has to wake it, without memory too.
class WithoutMemory {
public:
    explicit WithoutMemory(Callback callback) : callback_(std::move(callback)) {}
    aiobridge::future<Tracked> future() const { return promise_.second; }
    aiobridge::stream<Tracked> stream() const { return stream_.second; }

    std::pair<std::string, long> call(const std::string &name, long n, bool all) {
        Tracked one(1), two(2);
        const std::overflow_error error("an error");
        const auto accepted = aiobridge::fate::accepted;
        const std::map<std::string, std::function<aiobridge::fate()>> calls{
            {"make_promise", [&] { return aiobridge::make_promise<Tracked>(), accepted; }},
            {"make_stream", [&] { return aiobridge::make_stream<Tracked>(), accepted; }},
            {"set_value", [&] { return promise_.first.set_value(std::move(one)); }},
            {"set_value twice",
             [&] { return promise_.first.set_value(one), promise_.first.set_value(std::move(two)); }},
            {"set_exception", [&] { return promise_.first.set_exception(error); }},
            {"on_cancel", [&] { return promise_.first.on_cancel(ignore<aiobridge::cancel_reason>), accepted; }},
            {"cancel", [&] { return promise_.second.cancel(), accepted; }},
            {"push",
             [&] {
                 const auto first = stream_.first.push(std::move(one)); // there is room for one
                 return first == accepted ? stream_.first.push(std::move(two)) : first;
             }},
            {"close", [&] { return stream_.first.close(), accepted; }},
            {"fail", [&] { return stream_.first.fail(error), accepted; }},
            {"abort", [&] { return stream_.first.push(std::move(one)), stream_.first.abort(error), accepted; }},
            {"on_close", [&] { return stream_.second.on_close(ignore<aiobridge::close_reason>), accepted; }},
            {"on_ready", [&] { return stream_.first.on_ready(ignore<aiobridge::close_reason>), accepted; }},
            {"on_undelivered", [&] { return stream_.second.on_undelivered([](Tracked &&) {}), accepted; }},
            {"callback", [&] { return callback_(1); }},
            {"callback.call", [&] { return callback_.call(1), accepted; }},
            {"callback.call, evicting", [&] { return callback_.call(1), callback_.call(2), accepted; }},
        };
        if (name.ends_with("evicting"))
            callback_.limit({.running = 1, .waiting = 1, .overflow = aiobridge::overflow::drop_oldest});
        return Shortage(n, all).during(calls.at(name));
    }

private:
    const Callback callback_;
    std::pair<aiobridge::promise<Tracked>, aiobridge::future<Tracked>> promise_ = aiobridge::make_promise<Tracked>();
    std::pair<aiobridge::writer<Tracked>, aiobridge::stream<Tracked>> stream_ =
        aiobridge::make_stream<Tracked>({.capacity = 1, .overflow = aiobridge::overflow::unbounded});
};

} // namespace

void register_no_memory(py::module_ &m) {
    py::class_<WithoutMemory>(m, "WithoutMemory")
        .def(py::init<Callback>())
        .def("future", &WithoutMemory::future)
        .def("stream", &WithoutMemory::stream)
        .def("call", &WithoutMemory::call, py::call_guard<py::gil_scoped_release>());
}
