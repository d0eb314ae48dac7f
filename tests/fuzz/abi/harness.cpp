// tests/fuzz/abi/harness.cpp: the table of functions, called on many threads by a script, and what must hold whatever
// it calls
//
// The script (driver.py) decides what is called, from the fuzzer's bytes; this file keeps the contract of c_api.h for
// it (references, sizes, which handle a function wants) and counts what comes back.
#include "census.h"

#include <Python.h>

#include <pybind11/functional.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <memory>
#include <thread>
#include <vector>

namespace py = pybind11;

extern "C" int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*one_input)(const std::uint8_t *, std::size_t));

namespace {

const aiobridge_api *api;
py::object &driver = *new py::object; // on_value(number), on_arguments(number), on_result(number): called back

/// One operation, stream or callback.
struct Target {
    unsigned number;            // younger ones may hold older ones: never a circle of references that nobody can break
    const aiobridge_type *type; // of a stream's events, or an operation's value; null: a callback
    bool waits_long = false;    // a stream whose push may block until it is closed
    std::atomic<unsigned> completed{0}, cancel_hooks_run{0};
    ~Target() { REQUIRE(!completed || !cancel_hooks_run, "an operation was completed and its on_cancel hook ran"); }
};

enum class Role { promise, future, operation, writer, consumer, callback };

/// A counted handle, as the C++ headers have them.
class Grip {
public:
    Grip(Role role, void *raw, std::shared_ptr<Target> target) : role(role), raw_(raw), target(std::move(target)) {}
    Grip(const Grip &other) : role(other.role), raw_(other.raw_), target(other.target) { retain(); }
    Grip(const Grip &other, Role as) : role(as), raw_(other.raw_), target(other.target) { retain(); }
    Grip &operator=(const Grip &) = delete;
    ~Grip() {
        switch (role) {
        case Role::promise: api->promise_release(operation()); break;
        case Role::future: api->future_release(operation()); break;
        case Role::operation: api->operation_release(operation()); break;
        case Role::writer: api->writer_release(stream(), broken); break;
        case Role::consumer: api->consumer_release(stream()); break;
        case Role::callback: api->callback_release(callback()); break;
        }
    }
    aiobridge_operation *operation() const { return static_cast<aiobridge_operation *>(raw_); }
    aiobridge_stream *stream() const { return static_cast<aiobridge_stream *>(raw_); }
    aiobridge_callback *callback() const { return static_cast<aiobridge_callback *>(raw_); }
    bool is_operation() const { return role <= Role::operation; }

    Role role;

private:
    void retain() const {
        switch (role) {
        case Role::promise: api->promise_retain(operation()); break;
        case Role::future: api->future_retain(operation()); break;
        case Role::operation: api->operation_retain(operation()); break;
        case Role::writer: api->writer_retain(stream()); break;
        case Role::consumer: api->consumer_retain(stream()); break;
        case Role::callback: api->callback_retain(callback()); break;
        }
    }
    void *raw_;

public:
    std::shared_ptr<Target> target;
    bool broken = false;
};
using Shared = std::shared_ptr<Grip>;

// The handles that the script has. GIL.
auto &grips = *new std::vector<Shared>;
unsigned targets = 0;
std::atomic<std::uint64_t> fates[AIOBRIDGE_ALREADY_SET], conversions; // of streams

enum class Place { loop, loop_without_gil, worker, elsewhere };
void act(const Shared &, unsigned what, std::uint64_t argument, Place, const std::function<void()> &follow);

// Hooks: serial, on a thread without the GIL.

std::atomic<bool> hook_runs{false};

template <Census::Kind kind> void serve_hook(void *context, bool run) {
    REQUIRE(!PyGILState_Check(), "a hook has the GIL");
    REQUIRE(!hook_runs.exchange(true), "two hooks run at a time");
    const auto number = static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(context));
    run ? census.ran(number) : census.ended(number);
    hook_runs = false;
}

template <Census::Kind kind> std::uint32_t install(const std::function<void()> &follow, auto install) {
    const std::uint32_t number = census.begin(kind, follow);
    auto *context = reinterpret_cast<void *>(std::uintptr_t{number});
    const auto destroy = [](void *hook) { serve_hook<kind>(hook, false); };
    int installed;
    if constexpr (kind == Census::Kind::item_hook)
        installed =
            install(aiobridge_item_hook{sizeof(aiobridge_item_hook), 0,
                                        [](void *hook, void *) { serve_hook<kind>(hook, true); }, destroy, context});
    else
        installed = install(aiobridge_hook{sizeof(aiobridge_hook), 0,
                                           [](void *hook, aiobridge_reason) { serve_hook<kind>(hook, true); }, destroy,
                                           context});
    if (installed != 0) { // still ours
        census.require_alive(number);
        if (kind == Census::Kind::hook)
            fail("a hook was not installed");
        census.ended(number);
    }
    return number;
}

void on_cancel(const Grip &grip, const std::function<void()> &follow) {
    const auto run = [follow, target = std::weak_ptr(grip.target)] {
        if (const auto alive = target.lock())
            ++alive->cancel_hooks_run;
        if (follow)
            follow();
    };
    install<Census::Kind::cancel_hook>(
        run, [&](const aiobridge_hook &hook) { return api->operation_on_cancel(grip.operation(), &hook); });
}

template <class Method> void on_stream(const Grip &grip, const std::function<void()> &follow, Method method) {
    install<Census::Kind::hook>(follow,
                                [&](const aiobridge_hook &hook) { return (api->*method)(grip.stream(), &hook); });
}

// Payloads.

void complete(const Grip &grip, const aiobridge_type &type, std::function<void()> held) {
    Payload payload(type, std::move(held));
    const auto fate = api->operation_complete(grip.operation(), &type, payload.get());
    if (fate != AIOBRIDGE_ACCEPTED)
        return;
    payload.taken();
    REQUIRE(!grip.target->completed++, "an operation was completed twice");
}

void push(const Grip &grip, std::function<void()> held) {
    const auto &type = *grip.target->type;
    Payload payload(type, std::move(held));
    alignas(64) unsigned char evicted[128];
    const auto fate = api->stream_push(grip.stream(), payload.get(), evicted);
    REQUIRE(fate < AIOBRIDGE_ALREADY_SET, "push answers %u", fate);
    ++fates[fate];
    if (fate <= AIOBRIDGE_MERGED)
        payload.taken();
    if (fate == AIOBRIDGE_EVICTED_OLDEST && !is_trivial(type))
        Body::destroy(evicted);
}

void push_some(const Grip &grip, std::uint64_t count) {
    const auto &type = *grip.target->type;
    if (!is_trivial(type))
        return;
    const std::vector<unsigned char> items(count * type.size);
    const auto taken = api->stream_push_some(grip.stream(), items.data(), count);
    REQUIRE(taken <= count, "of %d items more are taken", static_cast<int>(count));
    fates[AIOBRIDGE_ACCEPTED] += taken;
}

void end_stream(const Grip &grip, bool abort, unsigned type, std::function<void()> held) {
    Payload error(types[type], std::move(held));
    if ((abort ? api->stream_abort : api->stream_fail)(grip.stream(), &types[type], error.get()) == 0)
        error.taken();
}

void merge(void (*)(), void *into, void *from) {
    Body::of(into);
    Body::of(from);
}
void merge_trivial(void (*)(), void *, void *) {}

// Calls.

aiobridge_pyobject *ask(const char *method, void *payload) {
    try {
        return driver.attr(method)(static_cast<Body *>(payload)->number).release().ptr();
    } catch (py::error_already_set &error) {
        error.restore();
        return nullptr;
    }
}
aiobridge_pyobject *arguments(void *payload) { return ask("on_arguments", Body::of(payload)); }
std::int32_t take_result(void *payload, aiobridge_pyobject *) {
    PyObject *taken = ask("on_result", Body::of(payload));
    if (!taken)
        return -1;
    Py_DECREF(taken);
    census.ran(Body::of(payload)->call);
    return 0;
}
void take_error(void *payload, const aiobridge_call_error *error) {
    REQUIRE(error->type && error->message && error->traceback, "an error without words");
    census.ran(Body::of(payload)->call);
}

constexpr std::uint32_t waited = AIOBRIDGE_CALL_WAITED, call_size = sizeof(aiobridge_call_type);
constexpr aiobridge_call_type call_types[] = {
    {call_size, 0, &types[0], arguments, take_result, take_error},
    {call_size, waited, &types[0], arguments, take_result, take_error},
    {call_size, 0, &types[1], arguments, nullptr, take_error},
    {call_size, 0, &types[0], arguments, take_result, nullptr},
    {call_size, 0, &types[1], arguments, nullptr, nullptr},
};

void call(const Grip &grip, unsigned which, std::function<void()> held) {
    const auto &type = call_types[which % std::size(call_types)];
    const std::uint32_t number = census.begin(Census::Kind::call);
    if (type.value && type.error)
        census.expect(number);
    // The call ends with its payload.
    auto end = std::shared_ptr<void>(nullptr, [number](void *) { census.ended(number); });
    Payload payload(*type.payload, [end = std::move(end), held = std::move(held)] {}, number);
    const auto fate = api->callback_call(grip.callback(), &type, payload.get());
    if (fate <= AIOBRIDGE_MERGED)
        payload.taken();
    else if (type.value && type.error)
        census.ran(number); // it was refused, and nobody was promised anything
}

void limit(const Grip &grip, std::uint64_t argument) {
    const aiobridge_limit limit{sizeof limit, static_cast<aiobridge_overflow>(argument % 9), argument / 9 % 3,
                                argument / 27 % 4, argument % 2 * 1000};
    api->callback_limit(grip.callback(), &limit);
}

// Anything that any thread may do with a handle.
void act(const Shared &held, unsigned what, std::uint64_t argument, Place place, const std::function<void()> &follow) {
    const Grip &grip = *held;
    if (what % 16 == 15) {
        aiobridge_gil_state state;
        if (place != Place::loop && api->gil_acquire(&state) == 0) {
            Py_DECREF(PyLong_FromLong(123456));
            api->gil_release(&state);
        }
        return;
    }
    switch (grip.role) {
    case Role::promise:
        switch (what % 4) {
        case 0: return complete(grip, *grip.target->type, follow);
        case 1: return complete(grip, types[error_type + argument % 2], follow);
        case 2: return on_cancel(grip, follow);
        default: return void(api->operation_reason(grip.operation()));
        }
    case Role::future:
    case Role::operation:
        switch (what % 3) {
        case 0: return api->operation_cancel(grip.operation(), static_cast<aiobridge_reason>(argument));
        case 1: return on_cancel(grip, follow);
        default: return void(api->operation_reason(grip.operation()));
        }
    case Role::writer:
        switch (what % 13) {
        case 0: return void(api->stream_close(grip.stream()));
        case 1: return end_stream(grip, false, error_type + argument % 2, follow);
        case 2: return end_stream(grip, true, error_type + argument % 2, follow);
        case 3: return void(api->stream_abort(grip.stream(), nullptr, nullptr));
        case 4: return on_stream(grip, follow, &aiobridge_api::stream_on_close);
        case 5: return on_stream(grip, follow, &aiobridge_api::stream_on_ready);
        case 6:
            install<Census::Kind::item_hook>(follow, [&](const aiobridge_item_hook &hook) {
                return api->stream_on_undelivered(grip.stream(), &hook);
            });
            return;
        case 7: return void(api->stream_ready(grip.stream()));
        case 8: return push_some(grip, argument % 100);
        default:
            // Who blocks until the stream is closed may not be whom others wait for.
            if (place != Place::elsewhere || !grip.target->waits_long)
                push(grip, follow);
            return;
        }
    case Role::consumer:
        if (what % 2)
            return on_stream(grip, follow, &aiobridge_api::stream_on_close);
        return void(api->stream_reason(grip.stream()));
    case Role::callback:
        switch (what % 4) {
        case 0: return limit(grip, argument);
        case 1: return void(api->callback_reason(grip.callback()));
        default: return call(grip, static_cast<unsigned>(argument), follow);
        }
    }
}

/// A thread that a blocked call may keep busy.
class Worker {
public:
    Worker() {
        std::thread([this] { run(); }).detach();
    }
    /// Without the GIL. False: it is busy still. Returns when the work is done, or after a moment.
    bool run(std::function<void()> work) {
        std::unique_lock lock(mutex_);
        if (work_)
            return false;
        work_ = std::move(work);
        changed_.notify_all();
        changed_.wait_for(lock, std::chrono::milliseconds(1), [this] { return !work_; });
        return true;
    }
    bool is_busy() {
        const std::lock_guard lock(mutex_);
        return work_ != nullptr;
    }

private:
    void run() {
        std::unique_lock lock(mutex_);
        for (;;) {
            changed_.wait(lock, [this] { return work_ != nullptr; });
            const auto work = work_;
            lock.unlock();
            work();
            lock.lock();
            work_ = nullptr;
            changed_.notify_all();
        }
    }
    std::mutex mutex_;
    std::condition_variable changed_;
    std::function<void()> work_;
};

struct Job : aiobridge_job {
    std::uint32_t number;
    Shared grip;
    unsigned what;
    static void end(aiobridge_job *raw, bool run) {
        const std::unique_ptr<Job> job(static_cast<Job *>(raw));
        if (run)
            act(job->grip, job->what, job->what, Place::elsewhere, {});
        census.ended(job->number);
    }
};

// What the script calls. A number of a handle that there is not is another one's.

unsigned add(Role role, void *raw, const std::shared_ptr<Target> &target) {
    grips.push_back(std::make_shared<Grip>(role, raw, target));
    return static_cast<unsigned>(grips.size());
}
const Shared *at(unsigned index) { return grips.empty() ? nullptr : &grips[index % grips.size()]; }

// The number of one of this role, if there is any.
std::size_t find(Role role, std::size_t number) {
    std::vector<std::size_t> found;
    for (std::size_t i = 0; i < grips.size(); ++i)
        if (grips[i]->role == role)
            found.push_back(i);
    return found.empty() ? number : found[number % found.size()];
}

std::shared_ptr<Target> new_target(const aiobridge_type *type) {
    auto target = std::make_shared<Target>();
    target->number = ++targets;
    target->type = type;
    return target;
}

void make_operation(unsigned type) {
    const aiobridge_operation_options options{sizeof options, 0, 128, 64, {"abi_fuzz", "make_operation", 1}};
    auto *raw = api->operation_create(&options);
    REQUIRE(raw, "no operation");
    const auto target = new_target(&types[type % value_types]);
    add(Role::promise, raw, target);
    add(Role::future, raw, target);
}

int make_stream(unsigned overflow, unsigned type, std::uint64_t capacity, std::uint64_t high, std::uint64_t low,
                std::uint64_t timeout) {
    const auto target = new_target(&types[type % value_types]);
    target->waits_long = overflow == AIOBRIDGE_BLOCK && timeout > 1000000;
    const aiobridge_stream_options options{sizeof options,
                                           overflow,
                                           capacity,
                                           target->type,
                                           {nullptr, nullptr, 0},
                                           timeout,
                                           high,
                                           low,
                                           is_trivial(*target->type) ? merge_trivial : merge,
                                           nullptr};
    aiobridge_stream *raw = nullptr;
    const int status = api->stream_create(&options, &raw);
    REQUIRE((status == 0) == (raw != nullptr), "stream_create answers %d and %p", status, static_cast<void *>(raw));
    if (raw) {
        add(Role::writer, raw, target);
        add(Role::consumer, raw, target);
    }
    return status;
}

void make_callback(const py::object &callable) {
    auto *raw = api->callback_create(callable.ptr());
    if (!raw)
        throw py::error_already_set();
    add(Role::callback, raw, new_target(nullptr));
}

void copy(unsigned index, bool as_operation) {
    if (const Shared *grip = at(index)) {
        const Role role = as_operation && (*grip)->is_operation() ? Role::operation : (*grip)->role;
        grips.push_back(std::make_shared<Grip>(**grip, role));
    }
}

void drop(unsigned index, bool broken, bool with_gil) {
    if (grips.empty())
        return;
    const auto found = grips.begin() + static_cast<std::ptrdiff_t>(index % grips.size());
    Shared grip = std::move(*found);
    grips.erase(found);
    grip->broken = broken;
    if (with_gil)
        grip.reset();
    const py::gil_scoped_release released;
    grip.reset();
}

Worker &worker() {
    static auto *const one = new Worker;
    return *one;
}

void act_on(unsigned index, unsigned what, std::uint64_t argument, unsigned where, unsigned follower,
            unsigned follower_does) {
    if (grips.empty())
        return;
    const Shared grip = *at(index), other = *at(follower);
    std::function<void()> follow;
    if (other->target->number < grip->target->number)
        // A handle of its own, as a closure has it.
        follow = [copy = std::make_shared<Grip>(*other), follower_does] {
            act(copy, follower_does, follower_does, Place::elsewhere, {});
        };
    const auto place = static_cast<Place>(where % 3);
    if (place == Place::loop)
        return act(grip, what, argument, place, follow);
    const py::gil_scoped_release released;
    if (place == Place::loop_without_gil || !worker().run([=] { act(grip, what, argument, Place::worker, follow); }))
        act(grip, what, argument, Place::loop_without_gil, follow);
}

void submit(unsigned index, unsigned what) {
    const Shared *grip = at(index);
    if (!grip || !(*grip)->is_operation())
        return;
    auto *job =
        new Job{{sizeof(aiobridge_job), 0, nullptr, (*grip)->operation(),
                 [](aiobridge_job *raw) { Job::end(raw, true); }, [](aiobridge_job *raw) { Job::end(raw, false); }},
                census.begin(Census::Kind::job),
                *grip,
                what};
    REQUIRE(api->pool_submit(job) == 0, "the pool takes no job");
}

template <bool of_stream, bool trivial> aiobridge_pyobject *convert(void *payload) {
    conversions += of_stream;
    if constexpr (trivial)
        return PyLong_FromLong(0);
    else
        return ask("on_value", Body::of(payload));
}
void convert_error(void *payload) {
    Body::of(payload);
    PyErr_SetString(PyExc_LookupError, "an error of the native side");
}
aiobridge_pyobject *make_array(std::uint64_t count, void **data) {
    PyObject *array = PyByteArray_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(count * 8));
    *data = array ? PyByteArray_AS_STRING(array) : nullptr;
    return array;
}
template <bool of_stream, bool trivial>
constexpr aiobridge_converter converter{sizeof(aiobridge_converter), 0, convert<of_stream, trivial>, convert_error,
                                        of_stream && trivial ? make_array : nullptr};

py::object object_of(unsigned index) {
    if (grips.empty())
        return py::none();
    const Shared grip = *at(index); // foreign code may drop it meanwhile
    const auto *type = grip->target->type;
    PyObject *object = nullptr;
    if (grip->role == Role::future)
        object = api->operation_future(grip->operation(),
                                       is_trivial(*type) ? &converter<false, true> : &converter<false, false>);
    else if (grip->role == Role::consumer)
        object =
            api->stream_object(grip->stream(), is_trivial(*type) ? &converter<true, true> : &converter<true, false>);
    else
        return py::none();
    if (!object)
        throw py::error_already_set();
    return py::reinterpret_steal<py::object>(object);
}

void drop_all() {
    auto dropped = std::move(grips);
    grips.clear();
    const py::gil_scoped_release released;
    dropped.clear();
}

py::object &one_input = *new py::object;
int fuzz_one(const std::uint8_t *data, std::size_t size) {
    try {
        one_input(py::bytes(reinterpret_cast<const char *>(data), size));
    } catch (py::error_already_set &error) {
        fail("the script raised: %s", error.what());
    }
    return 0;
}

void run(std::vector<std::string> arguments, py::object function) {
    one_input = std::move(function);
    std::vector<char *> argv;
    for (auto &argument : arguments)
        argv.push_back(argument.data());
    argv.push_back(nullptr);
    int argc = static_cast<int>(arguments.size());
    char **raw = argv.data();
    LLVMFuzzerRunDriver(&argc, &raw, fuzz_one);
}

} // namespace

PYBIND11_MODULE(abi_fuzz, m, py::mod_gil_not_used()) {
    const auto core = py::module_::import("aiobridge._core");
    api = static_cast<const aiobridge_api *>(
        PyCapsule_GetPointer(core.attr(AIOBRIDGE_CAPSULE_ATTRIBUTE).ptr(), AIOBRIDGE_CAPSULE_NAME));
    REQUIRE(api && api->struct_size == sizeof(aiobridge_api), "not this runtime's table");
    m.def("run", run);
    m.def("set_driver", [](py::object object) { driver = std::move(object); });
    m.def("make_operation", make_operation);
    m.def("make_stream", make_stream);
    m.def("make_callback", make_callback);
    m.def("find", [](int role, std::size_t number) { return find(static_cast<Role>(role), number); });
    m.def("copy", copy);
    m.def("drop", drop);
    m.def("act", act_on);
    m.def("submit", submit);
    m.def("object_of", object_of);
    m.def("report", [](const std::string &text) { api->report(text.c_str()); });
    m.def("drop_all", drop_all);
    m.def("open", [] { return census.open(); });
    m.def("blocks", [] { return worker().is_busy(); });
    // By code, and how many events were converted one by one.
    m.def("fates",
          [] { return std::pair(std::vector<std::uint64_t>(std::begin(fates), std::end(fates)), conversions.load()); });
    m.def("close", [] {
        census.close();
        targets = 0;
    });
}
