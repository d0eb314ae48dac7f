"""The table of functions, called through ctypes with what the C++ headers never pass."""

import asyncio
import ctypes

import pytest
from waiting import until

import aiobridge
from aiobridge import _core

# Codes and places of aiobridge/c_api.h.
CLOSED, CANCELLED, SCOPE_EXIT = 5, 5, 6
FIRST_FUNCTION = 24
CREATE, RELEASE_PROMISE, RELEASE_FUTURE, COMPLETE, CANCEL, REASON, FUTURE = 0, 2, 4, 7, 8, 9, 11
TRIVIAL = 1


class OperationOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("size", ctypes.c_uint64),
        ("align", ctypes.c_uint64),
        ("file", ctypes.c_char_p),
        ("function", ctypes.c_char_p),
        ("line", ctypes.c_uint32),
    ]


class Type(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("size", ctypes.c_uint64),
        ("align", ctypes.c_uint64),
        ("move", ctypes.c_void_p),
        ("destroy", ctypes.c_void_p),
    ]


class Converter(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("value", ctypes.c_void_p),
        ("error", ctypes.c_void_p),
        ("array", ctypes.c_void_p),
    ]


def function(slot: int, result: object, *arguments: object) -> ctypes._CFuncPtr:
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    table = pointer(_core.abi_v1, b"aiobridge._core.abi_v1")
    address = ctypes.c_void_p.from_address(table + FIRST_FUNCTION + slot * ctypes.sizeof(ctypes.c_void_p)).value
    return ctypes.PYFUNCTYPE(result, *arguments)(address)


@pytest.mark.parametrize("reason", [0, 1, 2, 10, 1 << 24, (1 << 32) - 1])
async def test_a_reason_for_which_nobody_cancels_is_cancelled(reason):
    """Taken as it is, `open` would have the operation posted twice: a list with a circle."""
    create = function(CREATE, ctypes.c_void_p, ctypes.POINTER(OperationOptions))
    raw = ctypes.c_void_p(create(OperationOptions(ctypes.sizeof(OperationOptions), 0, 8, 8, b"here", b"test", 1)))
    converter = Converter(ctypes.sizeof(Converter))
    future = function(FUTURE, ctypes.py_object, ctypes.c_void_p, ctypes.POINTER(Converter))(raw, converter)
    function(RELEASE_FUTURE, None, ctypes.c_void_p)(raw)

    function(CANCEL, None, ctypes.c_void_p, ctypes.c_uint32)(raw, reason)
    assert function(REASON, ctypes.c_uint32, ctypes.c_void_p)(raw) == CANCELLED
    complete = function(COMPLETE, ctypes.c_uint32, ctypes.c_void_p, ctypes.POINTER(Type), ctypes.c_void_p)
    assert complete(raw, Type(ctypes.sizeof(Type), TRIVIAL, 8, 8), ctypes.byref(ctypes.c_uint64(1))) == CLOSED
    function(RELEASE_PROMISE, None, ctypes.c_void_p)(raw)
    with pytest.raises(asyncio.CancelledError):
        await future
    del future
    await until(lambda: not aiobridge.stats().operations)


async def test_a_reason_of_a_consumer_is_kept():
    create = function(CREATE, ctypes.c_void_p, ctypes.POINTER(OperationOptions))
    raw = ctypes.c_void_p(create(OperationOptions(ctypes.sizeof(OperationOptions), 0, 8, 8, b"here", b"test", 1)))
    function(CANCEL, None, ctypes.c_void_p, ctypes.c_uint32)(raw, SCOPE_EXIT)
    assert function(REASON, ctypes.c_uint32, ctypes.c_void_p)(raw) == SCOPE_EXIT
    for release in (RELEASE_PROMISE, RELEASE_FUTURE):
        function(release, None, ctypes.c_void_p)(raw)
