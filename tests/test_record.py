"""Records: structs as Python objects that are not bound classes."""

import copy
import pickle
import re

import native
import pytest
from waiting import until

import aiobridge

Trade = native.Trade
TRADE = Trade(1, 2.5, "X", None)


async def test_a_stream_and_a_future_of_records():
    trades = [trade async for trade in native.trades(20)]
    assert trades == [Trade(i, i / 2, "TRADE", i if i % 2 else None) for i in range(20)]
    assert (await native.native_only(5)).tracked.number == 5


def test_its_attributes_are_converted_when_read_and_cannot_be_written():
    assert (TRADE.ns, TRADE.price, TRADE.symbol, TRADE.size) == (1, 2.5, "X", None)
    with pytest.raises(AttributeError):
        TRADE.ns = 2
    with pytest.raises(AttributeError):
        TRADE.other = 2
    match TRADE:
        case Trade(1, _, symbol):
            assert symbol == "X"


def test_it_shows_itself_compares_and_hashes_by_its_attributes():
    assert repr(TRADE) == "Trade(ns=1, price=2.5, symbol='X', size=None)"
    assert (Trade.__name__, Trade.__module__, Trade.__match_args__) == (
        "Trade",
        "native",
        ("ns", "price", "symbol", "size"),
    )
    same, other = Trade(ns=1, price=2.5, symbol="X", size=None), Trade(1, 2.5, "X", 0)
    assert same == TRADE
    assert hash(same) == hash(TRADE)
    assert other != TRADE
    assert TRADE != (1, 2.5, "X", None)
    assert len({TRADE, same, other}) == 2
    with pytest.raises(TypeError, match="not supported"):
        _ = other > TRADE


def test_it_is_copied_and_pickled():
    for again in (copy.copy(TRADE), copy.deepcopy(TRADE), pickle.loads(pickle.dumps(TRADE))):
        assert again == TRADE
        assert again is not TRADE


@pytest.mark.parametrize(
    ("arguments", "named", "what"),
    [
        ((1, 2, "X"), {}, "native.Trade needs 'size'"),
        ((1, 2, "X", None, 5), {}, "native.Trade takes 4 values, and got 5"),
        ((1, 2, "X", None), {"ns": 5}, "native.Trade got 'ns' twice|has no attribute 'ns'"),
        ((1, 2, "X", None), {"weight": 5}, "native.Trade has no attribute 'weight'"),
        (("one", 2, "X", None), {}, "native.Trade cannot have 'one' as ns"),
        ((1 << 64, 2, "X", None), {}, "native.Trade cannot have 18446744073709551616 as ns"),
    ],
)
def test_what_cannot_become_one_is_refused(arguments, named, what):
    with pytest.raises(TypeError, match=what):
        Trade(*arguments, **named)


def test_it_is_an_argument_of_native_functions():
    assert native.value_of_trade(Trade(0, 2.5, "X", 4)) == 10
    assert native.later(TRADE, 5) == Trade(6, 2.5, "X", None)
    assert TRADE.ns == 1
    for wrong in ((1, 2.5, "X", None), None, native.Tracked(1)):
        with pytest.raises(TypeError, match=re.escape("(trade: native.Trade) -> float")):
            native.value_of_trade(wrong)


def test_without_a_default_constructor_native_code_makes_it():
    with pytest.raises(TypeError, match=r"native\.NativeOnly is made by native code only"):
        native.NativeOnly()


async def test_a_record_ends_with_its_object():
    made = await native.native_only(1)
    await until(lambda: native.Tracked.live == 1)  # the native thread has its own until its call has returned
    tracked = made.tracked
    assert native.Tracked.live == 2
    del made, tracked
    await until(lambda: native.Tracked.live == 0)


async def test_one_that_was_not_made_says_so():
    what = (
        r"native\.NeverMade is declared with AIOBRIDGE_RECORD, and was not made: call aiobridge::record in its module"
    )
    with pytest.raises(TypeError, match=what):
        native.never_made()
    with pytest.raises(TypeError, match=what):
        await native.never_made_later()
    await until(lambda: not aiobridge.stats().operations)


def test_a_record_is_made_once():
    with pytest.raises(TypeError, match=r"native\.Trade was made before"):
        native.make_record_again()
