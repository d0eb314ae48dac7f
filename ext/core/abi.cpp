// ext/core/abi.cpp: the table of functions that extensions use
//
// One line for each slot: from the handle to the object. Nothing is thrown from here, but for the forced unwinding of a
// thread that Python ends.
#include "abi.h"

#include "callback.h"
#include "channel.h"
#include "future.h"
#include "gil.h"
#include "operation.h"
#include "runtime.h"
#include "stream.h"

#include <aiobridge/c_api.h>
#include <aiobridge/version.h>

namespace aiobridge::core {
namespace {

#define AIOBRIDGE_TEXT_(x) #x
#define AIOBRIDGE_TEXT(x) AIOBRIDGE_TEXT_(x)

// `open` and the like would leave an operation that is cancelled and is not.
aiobridge_reason as_cancel_reason(aiobridge_reason reason) noexcept {
    return reason >= AIOBRIDGE_CONSUMER_CLOSED && reason <= AIOBRIDGE_FORKED ? reason
                                                                             : aiobridge_reason{AIOBRIDGE_CANCELLED};
}

const aiobridge_api table = {
    .struct_size = sizeof(aiobridge_api),
    .abi_major = AIOBRIDGE_ABI_MAJOR,
    .abi_minor = AIOBRIDGE_ABI_MINOR,
    .version = AIOBRIDGE_TEXT(AIOBRIDGE_VERSION_MAJOR) "." AIOBRIDGE_TEXT(AIOBRIDGE_VERSION_MINOR) "." AIOBRIDGE_TEXT(
        AIOBRIDGE_VERSION_PATCH),

    .operation_create = [](const aiobridge_operation_options *options) -> aiobridge_operation * {
        return Operation::create(*options);
    },
    .promise_retain = [](aiobridge_operation *raw) { Operation::from(raw)->retain_promise(); },
    .promise_release = [](aiobridge_operation *raw) { Operation::from(raw)->release_promise(); },
    .future_retain = [](aiobridge_operation *raw) { Operation::from(raw)->retain_consumer(); },
    .future_release = [](aiobridge_operation *raw) { Operation::from(raw)->release_consumer(); },
    .operation_retain = [](aiobridge_operation *raw) { Operation::from(raw)->retain(); },
    .operation_release = [](aiobridge_operation *raw) { Operation::from(raw)->release(); },
    .operation_complete = [](aiobridge_operation *raw, const aiobridge_type *type,
                             void *payload) { return Operation::from(raw)->complete(type, payload); },
    .operation_cancel = [](aiobridge_operation *raw,
                           aiobridge_reason reason) { Operation::from(raw)->cancel(as_cancel_reason(reason), true); },
    .operation_reason =
        [](const aiobridge_operation *raw) {
            return Operation::from(const_cast<aiobridge_operation *>(raw))->reason();
        },
    .operation_on_cancel = [](aiobridge_operation *raw, const aiobridge_hook *hook) -> std::int32_t {
        return Operation::from(raw)->on_cancel(*hook);
    },
    .operation_future =
        [](aiobridge_operation *raw, const aiobridge_converter *converter) {
            return operation_future(*Operation::from(raw), converter);
        },

    .stream_create = [](const aiobridge_stream_options *options, aiobridge_stream **created) -> std::int32_t {
        Channel *channel = nullptr;
        const int status = Channel::create(*options, channel);
        *created = channel;
        return status;
    },
    .writer_retain = [](aiobridge_stream *raw) { Channel::from(raw)->retain_writer(); },
    .writer_release = [](aiobridge_stream *raw,
                         std::int32_t broken) { Channel::from(raw)->release_writer(broken != 0); },
    .consumer_retain = [](aiobridge_stream *raw) { Channel::from(raw)->retain_consumer(); },
    .consumer_release = [](aiobridge_stream *raw) { Channel::from(raw)->release_consumer(); },
    .stream_push = [](aiobridge_stream *raw, void *item,
                      void *evicted) { return Channel::from(raw)->push(item, evicted); },
    .stream_push_some = [](aiobridge_stream *raw, const void *items,
                           std::uint64_t count) { return Channel::from(raw)->push_some(items, count); },
    .stream_close = [](aiobridge_stream *raw) -> std::int32_t {
        return Channel::from(raw)->close(AIOBRIDGE_FINISHED) ? 0 : -1;
    },
    .stream_fail = [](aiobridge_stream *raw, const aiobridge_type *type, void *error) -> std::int32_t {
        return Channel::from(raw)->fail(type, error) ? 0 : -1;
    },
    .stream_abort = [](aiobridge_stream *raw, const aiobridge_type *type, void *error) -> std::int32_t {
        return Channel::from(raw)->abort(type, error) ? 0 : -1;
    },
    .stream_reason =
        [](const aiobridge_stream *raw) { return Channel::from(const_cast<aiobridge_stream *>(raw))->reason(); },
    .stream_on_close = [](aiobridge_stream *raw, const aiobridge_hook *hook) -> std::int32_t {
        return Channel::from(raw)->on_close(*hook);
    },
    .stream_ready = [](const aiobridge_stream *raw) -> std::int32_t {
        return Channel::from(const_cast<aiobridge_stream *>(raw))->ready();
    },
    .stream_on_ready = [](aiobridge_stream *raw, const aiobridge_hook *hook) -> std::int32_t {
        return Channel::from(raw)->on_ready(*hook);
    },
    .stream_on_undelivered = [](aiobridge_stream *raw, const aiobridge_item_hook *hook) -> std::int32_t {
        return Channel::from(raw)->on_undelivered(*hook);
    },
    .stream_object = [](aiobridge_stream *raw,
                        const aiobridge_converter *converter) { return stream_object(*Channel::from(raw), converter); },

    .callback_create = [](aiobridge_pyobject *callable) -> aiobridge_callback * { return Callback::create(callable); },
    .callback_retain = [](aiobridge_callback *raw) { Callback::from(raw)->retain_handle(); },
    .callback_release = [](aiobridge_callback *raw) { Callback::from(raw)->release_handle(); },
    .callback_call = [](aiobridge_callback *raw, const aiobridge_call_type *type,
                        void *payload) { return Callback::from(raw)->call(*type, payload); },
    .callback_reason =
        [](const aiobridge_callback *raw) { return Callback::from(const_cast<aiobridge_callback *>(raw))->reason(); },
    .callback_limit = [](aiobridge_callback *raw, const aiobridge_limit *limit) -> std::int32_t {
        return Callback::from(raw)->set_limit(*limit);
    },

    .gil_acquire = [](aiobridge_gil_state *state) -> std::int32_t { return gil_acquire(*state) ? 0 : -1; },
    .gil_release = [](const aiobridge_gil_state *state) { gil_release(*state); },

    .pool_submit = [](aiobridge_job *job) -> std::int32_t { return Runtime::current().pool.submit(job); },

    .report = [](const char *message) { Runtime::current().report(message); },
};

} // namespace

int register_abi(PyObject *module) noexcept {
    PyObject *capsule = PyCapsule_New(const_cast<aiobridge_api *>(&table), AIOBRIDGE_CAPSULE_NAME, nullptr);
    const int status = capsule ? PyModule_AddObjectRef(module, AIOBRIDGE_CAPSULE_ATTRIBUTE, capsule) : -1;
    Py_XDECREF(capsule);
    return status;
}

} // namespace aiobridge::core
