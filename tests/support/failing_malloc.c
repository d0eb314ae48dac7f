// tests/support/failing_malloc.c: preloaded, lets chosen allocations of one thread fail
#include <errno.h>
#include <stddef.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t),
    *__libc_memalign(size_t, size_t);

// Initial-exec: the general way to a thread's own variable can allocate.
#define OWN static __thread __attribute__((tls_model("initial-exec")))
OWN long until_failure, failures; // 0: none is to fail
OWN int all_fail;

// Has this thread's n-th allocation from now on fail, and with `all` those after it too.
void fail_allocation(long n, int all) {
    until_failure = n;
    all_fail = all;
    failures = 0;
}
// How many have failed.
long stop_failing(void) {
    until_failure = 0;
    return failures;
}

static int fails(void) {
    if (until_failure == 0 || (until_failure > 1 && until_failure-- > 1))
        return 0;
    ++failures;
    if (!all_fail)
        until_failure = 0;
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t size) { return fails() ? NULL : __libc_malloc(size); }
void *calloc(size_t count, size_t size) { return fails() ? NULL : __libc_calloc(count, size); }
void *realloc(void *memory, size_t size) { return fails() ? NULL : __libc_realloc(memory, size); }
void *memalign(size_t alignment, size_t size) { return fails() ? NULL : __libc_memalign(alignment, size); }
void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }
int posix_memalign(void **memory, size_t alignment, size_t size) {
    *memory = memalign(alignment, size);
    return *memory ? 0 : ENOMEM;
}
