// tests/native/src/allocations.cpp: counts what Python allocates
#include "native.h"

namespace {

// GIL.
PyMemAllocatorEx original[2];
std::int64_t allocations = 0;

void *counted_malloc(void *domain, std::size_t size) {
    ++allocations;
    auto &allocator = *static_cast<PyMemAllocatorEx *>(domain);
    return allocator.malloc(allocator.ctx, size);
}
void *counted_calloc(void *domain, std::size_t count, std::size_t size) {
    ++allocations;
    auto &allocator = *static_cast<PyMemAllocatorEx *>(domain);
    return allocator.calloc(allocator.ctx, count, size);
}
void *counted_realloc(void *domain, void *memory, std::size_t size) {
    ++allocations;
    auto &allocator = *static_cast<PyMemAllocatorEx *>(domain);
    return allocator.realloc(allocator.ctx, memory, size);
}
void counted_free(void *domain, void *memory) {
    auto &allocator = *static_cast<PyMemAllocatorEx *>(domain);
    allocator.free(allocator.ctx, memory);
}

constexpr PyMemAllocatorDomain domains[] = {PYMEM_DOMAIN_OBJ, PYMEM_DOMAIN_MEM};

} // namespace

void register_allocations(py::module_ &m) {
    m.def("start_counting_allocations", [] {
        allocations = 0;
        for (int i = 0; i < 2; ++i) {
            PyMem_GetAllocator(domains[i], &original[i]);
            PyMemAllocatorEx counting{&original[i], counted_malloc, counted_calloc, counted_realloc, counted_free};
            PyMem_SetAllocator(domains[i], &counting);
        }
    });
    m.def("stop_counting_allocations", [] {
        for (int i = 0; i < 2; ++i)
            PyMem_SetAllocator(domains[i], &original[i]);
        return allocations;
    });
}
