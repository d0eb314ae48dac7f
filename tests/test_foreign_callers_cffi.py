"""Callbacks of C functions that cffi calls: on a thread of POSIX, and before the call returns."""

import asyncio
import threading

import pytest

import aiobridge

cffi = pytest.importorskip("cffi")
ffi = cffi.FFI()
ffi.cdef("""
    int pthread_create(unsigned long *thread, const void *attributes, void *(*start)(void *), void *argument);
    int pthread_join(unsigned long thread, void **result);
    void qsort(void *base, size_t count, size_t size, int (*compare)(const void *, const void *));
""")
posix = ffi.dlopen(None)


def start_posix_thread(argument, callback):
    @ffi.callback("void *(void *)")
    def start(pointer):
        callback(ffi.from_handle(pointer), threading.get_ident())
        return ffi.NULL

    handle, thread = ffi.new_handle(argument), ffi.new("unsigned long *")
    assert posix.pthread_create(thread, ffi.NULL, start, handle) == 0
    return thread, start, handle


async def test_cffi_a_thread_of_posix():
    threads = []

    def start(argument, callback):
        threads.append(start_posix_thread(argument, callback))

    argument, thread = await asyncio.wait_for(aiobridge.awaitable(start)("argument"), 20)
    assert argument == "argument"
    assert thread != threading.get_ident()
    # It gives up the GIL, as all functions of cffi do.
    assert posix.pthread_join(threads[0][0][0], ffi.NULL) == 0


async def test_cffi_callbacks_inside_the_call():
    def compare_all(numbers, callback):
        @ffi.callback("int(const void *, const void *)")
        def compare(a, b):
            left, right = (ffi.cast("int *", pointer)[0] for pointer in (a, b))
            callback(left, right)
            return left - right

        array = ffi.new("int[]", numbers)
        posix.qsort(array, len(numbers), ffi.sizeof("int"), compare)

    pairs = [pair async for pair in aiobridge.subscribe(compare_all, [3, 1, 2])]
    assert {number for pair in pairs for number in pair} == {1, 2, 3}
