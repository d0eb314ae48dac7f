// ext/core/settings.cpp: configure() and stats()
#include "settings.h"

#include "bridge.h"
#include "callback.h"
#include "channel.h"
#include "counts.h"
#include "operation.h"
#include "runtime.h"
#include "scope.h"

#include <aiobridge/c_api.h>

#include <pybind11/stl.h>

#include <cstdlib>
#include <optional>
#include <string>

namespace py = pybind11;

namespace aiobridge::core {
namespace {

WakeMode wake_mode(const char *source, const std::string &name) {
    if (name == "call_soon")
        return WakeMode::call_soon;
    if (name == "fd")
        return WakeMode::fd;
    throw py::value_error(std::string(source) + " is '" + name + "'; it must be 'call_soon' or 'fd'");
}

const char *name_of(WakeMode mode) { return mode == WakeMode::fd ? "fd" : "call_soon"; }

void configure_wakeup(const std::string &name) {
    const WakeMode mode = wake_mode("aiobridge.configure: wakeup", name);
    PyObject *loop = running_loop();
    if (!loop) {
        Runtime::current().wake_mode = mode;
        return;
    }
    BridgeRef bridge = Bridge::find(loop);
    if (!bridge)
        bridge = Bridge::make(loop, mode);
    if (!bridge)
        throw py::error_already_set();
    // A loop without readers has `call_soon` whatever it was asked for; that is no error, and counted.
    if (bridge->mode() != mode && bridge->has_readers())
        throw std::runtime_error(std::string("aiobridge.configure: this loop uses wakeup '") + name_of(bridge->mode()) +
                                 "' already, since its first native result; configure before that");
}

unsigned pool_size(const char *source, const std::string &text, long long threads) {
    if (threads < 1 || threads > 4096)
        throw py::value_error(std::string(source) + " is " + text + "; it must be from 1 to 4096");
    return static_cast<unsigned>(threads);
}

void configure_pool(long long threads) {
    const unsigned size = pool_size("aiobridge.configure: pool_threads", std::to_string(threads), threads);
    if (!Runtime::current().pool.resize(size))
        throw std::runtime_error("aiobridge.configure: the pool runs with " +
                                 std::to_string(Runtime::current().pool.size()) +
                                 " threads already, since the first aiobridge::async call; configure before that");
}

void configure(const std::optional<std::string> &wakeup, std::optional<long long> pool_threads) {
    if (wakeup)
        wake_mode("aiobridge.configure: wakeup", *wakeup); // both are looked at before either is done
    if (pool_threads)
        configure_pool(*pool_threads);
    if (wakeup)
        configure_wakeup(*wakeup);
}

py::dict stats() {
    Runtime &runtime = Runtime::current();
    if (runtime.run_deferred(running_loop()) != 0) // what waits to be dropped is not alive
        throw py::error_already_set();
    const auto figure = [](const std::atomic<std::uint64_t> &value) { return value.load(std::memory_order_relaxed); };
    py::dict result;
    result["loops"] = Bridge::live();
    result["operations"] = Operation::live();
    result["streams"] = Channel::live();
    result["callbacks"] = Callback::live();
    result["scopes"] = Scope::live();
    result["hooks"] = Hook::live();
    Counts events;
    runtime.channels.for_each([&](Channel &channel) { events.add(channel.counts()); },
                              [&] { events.add(runtime.past_events); });
    result["events"] = py::reinterpret_steal<py::object>(make_stream_stats(events));
    result["wakes"] = figure(runtime.figures.wakes);
    result["drains"] = figure(runtime.figures.drains);
    result["deliveries"] = figure(runtime.figures.deliveries);
    result["fd_fallbacks"] = figure(runtime.figures.fd_fallbacks);
    result["misuses"] = figure(runtime.figures.misuses);
    result["pool_threads"] = runtime.pool.started();
    return result;
}

// For `aiobridge info`. The last is the running loop's, None if there is none or it has not used us.
py::dict settings() {
    Runtime &runtime = Runtime::current();
    py::dict result;
    result["abi"] = std::to_string(AIOBRIDGE_ABI_MAJOR) + "." + std::to_string(AIOBRIDGE_ABI_MINOR);
    result["wakeup"] = name_of(runtime.wake_mode);
    result["pool_threads"] = runtime.pool.size();
    PyObject *loop = running_loop();
    const BridgeRef bridge = loop ? Bridge::find(loop) : BridgeRef();
    result["loop_wakeup"] = bridge ? py::object(py::str(name_of(bridge->mode()))) : py::none();
    return result;
}

// At import, where a wrong value is seen by whoever set it.
void read_environment() {
    if (const char *text = std::getenv("AIOBRIDGE_WAKEUP"); text && *text)
        Runtime::current().wake_mode = wake_mode("AIOBRIDGE_WAKEUP", text);
    if (const char *text = std::getenv("AIOBRIDGE_POOL_THREADS"); text && *text) {
        char *end = nullptr;
        const long long threads = std::strtoll(text, &end, 10);
        Runtime::current().pool.resize(pool_size("AIOBRIDGE_POOL_THREADS", text, *end ? 0 : threads));
    }
}

} // namespace

void register_settings(py::module_ &module) {
    read_environment();
    module.def("configure", &configure, py::kw_only(), py::arg("wakeup") = py::none(),
               py::arg("pool_threads") = py::none());
    module.def("settings", &settings);
    module.def("stats", &stats);
}

} // namespace aiobridge::core
