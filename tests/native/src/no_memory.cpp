// tests/native/src/no_memory.cpp: native calls without the memory that they ask for
//
// Only the thread that makes the call is short of memory, and only meanwhile, so that nothing else is tested.
#include "native.h"

#include <dlfcn.h>

#include <map>
#include <memory>
#include <stdexcept>
#include <system_error>

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

    /// The outcome of the call, on a thread of its own; empty if it did not allocate so often.
    std::string during(const std::function<aiobridge::fate()> &call) const {
        std::string outcome;
        std::thread([&] {
            long failed = 0;
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
            if (failed == 0)
                outcome.clear();
        }).join();
        return outcome;
    }

private:
    void (*const begin_)(long, int) = injector<void(long, int)>("fail_allocation");
    long (*const end_)() = injector<long()>("stop_failing");
    const long n_;
    const bool all_;
};

template <class Reason> void ignore(Reason) {}

// What is needed for a call is made before the shortage, and goes after it.
std::string attempt(const std::string &call, const Shortage &shortage, const Callback &callback) {
    auto promise = aiobridge::make_promise<Tracked>();
    auto stream = aiobridge::make_stream<Tracked>({.capacity = 1, .overflow = aiobridge::overflow::unbounded});
    Tracked one(1), two(2);
    const std::runtime_error error("an error");
    const auto accepted = aiobridge::fate::accepted;
    const std::map<std::string, std::function<aiobridge::fate()>> calls{
        {"make_promise", [&] { return aiobridge::make_promise<Tracked>(), accepted; }},
        {"make_stream", [&] { return aiobridge::make_stream<Tracked>(), accepted; }},
        {"set_value", [&] { return promise.first.set_value(std::move(one)); }},
        {"set_value twice", [&] { return promise.first.set_value(one), promise.first.set_value(std::move(two)); }},
        {"set_exception", [&] { return promise.first.set_exception(error); }},
        {"on_cancel", [&] { return promise.first.on_cancel(ignore<aiobridge::cancel_reason>), accepted; }},
        {"cancel", [&] { return promise.second.cancel(), accepted; }},
        {"push",
         [&] {
             const auto first = stream.first.push(std::move(one)); // there is room for one
             return first == accepted ? stream.first.push(std::move(two)) : first;
         }},
        {"close", [&] { return stream.first.close(), accepted; }},
        {"fail", [&] { return stream.first.fail(error), accepted; }},
        {"abort", [&] { return stream.first.push(std::move(one)), stream.first.abort(error), accepted; }},
        {"on_close", [&] { return stream.second.on_close(ignore<aiobridge::close_reason>), accepted; }},
        {"on_ready", [&] { return stream.first.on_ready(ignore<aiobridge::close_reason>), accepted; }},
        {"on_undelivered", [&] { return stream.second.on_undelivered([](Tracked &&) {}), accepted; }},
        {"callback", [&] { return callback(1); }},
        {"callback.call", [&] { return callback.call(1), accepted; }},
        {"callback.call, evicting", [&] { return callback.call(1), callback.call(2), accepted; }},
    };
    if (call.ends_with("evicting"))
        callback.limit({.running = 1, .waiting = 1, .overflow = aiobridge::overflow::drop_oldest});
    return shortage.during(calls.at(call));
}

} // namespace

void register_no_memory(py::module_ &m) {
    m.def(
        "call_without_memory",
        [](const std::string &call, long n, bool all, const Callback &callback) {
            return attempt(call, Shortage(n, all), callback);
        },
        py::call_guard<py::gil_scoped_release>());
}
