// ext/core/notice.cpp: a Future of None that the core itself completes
#include "notice.h"

#include "future.h"

namespace aiobridge::core {
namespace {

const aiobridge_type unit{sizeof(aiobridge_type), AIOBRIDGE_TYPE_TRIVIAL, 1, 1, nullptr, nullptr};

PyObject *none(void *) { return Ref::borrow(Py_None).release(); }
const aiobridge_converter none_converter{sizeof(aiobridge_converter), 0, none, nullptr, nullptr};

} // namespace

Operation *make_notice(const aiobridge_site &site, Ref &future) noexcept {
    const aiobridge_operation_options options{sizeof options, 0, unit.size, unit.align, site};
    Operation *operation = Operation::create(options);
    if (!operation) {
        PyErr_NoMemory();
        return nullptr;
    }
    future = Ref(operation_future(*operation, &none_converter, false));
    operation->release_consumer();
    if (future)
        return operation;
    operation->release_promise();
    return nullptr;
}

void give_notice(Operation &operation) noexcept {
    char done = 1;
    operation.complete(&unit, &done);
}

} // namespace aiobridge::core
