"""Records: structs as Python objects that are not bound classes."""

import copy
import math
import pickle
import re

import native
import pytest
from waiting import until

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
    with pytest.raises(AttributeError):
        del TRADE.ns
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


def test_a_not_a_number_equals_itself_in_the_same_record():
    trade = Trade(1, math.nan, "X", None)
    assert trade == trade
    assert trade in {trade}
    assert trade != Trade(1, math.nan, "X", None)


def test_without_attributes_all_are_equal():
    assert repr(native.Nothing()) == "Nothing()"
    assert native.Nothing() == native.Nothing()


def test_members_of_any_type_that_becomes_a_python_object():
    mixed = native.mixed()
    trade = "Trade(ns=0, price=0.0, symbol='', size=None)"
    assert repr(mixed) == (
        f"Mixed(symbol='AIO', place='Frankfurt', view='view', number=7, inner={trade}, several=[{trade}, {trade}])"
    )
    assert copy.deepcopy(mixed) == mixed
    with pytest.raises(TypeError, match=r"native\.Mixed is made by native code only: symbol cannot be set"):
        native.Mixed("AIO")


def test_a_member_of_a_class_that_is_not_registered_is_an_error_wherever_it_is_needed():
    one, other = native.with_unknown(), native.with_unknown()
    for what in (
        lambda: one.unknown,
        lambda: hash(one),
        lambda: one == other,
        lambda: repr(one),
        lambda: pickle.dumps(one),
    ):
        with pytest.raises(TypeError, match="Unregistered type"):
            what()


def test_it_is_copied_and_pickled():
    for again in (copy.copy(TRADE), copy.deepcopy(TRADE), pickle.loads(pickle.dumps(TRADE))):
        assert again == TRADE
        assert again is not TRADE


@pytest.mark.parametrize(
    ("arguments", "named", "what"),
    [
        ((1, 2, "X"), {}, "native.Trade needs 'size'"),
        ((1, 2, "X", None, 5), {}, "native.Trade takes 4 values, and got 5"),
        ((1, 2, "X", None), {"ns": 5}, "native.Trade got 'ns' twice"),
        ((1, 2, "X", None), {"weight": 5}, "native.Trade has no attribute 'weight'"),
        (("one", 2, "X", None), {}, "native.Trade cannot have 'one' as ns: it does not become a long"),
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
    assert native.symbols([TRADE, TRADE], TRADE, None) == "XXX-"
    assert native.symbols([], TRADE, TRADE) == "XX"
    for wrong in ((1, 2.5, "X", None), None, native.Tracked(1)):
        with pytest.raises(TypeError, match=re.escape("(trade: native.Trade) -> float")):
            native.value_of_trade(wrong)


async def test_without_a_default_constructor_native_code_makes_it():
    with pytest.raises(
        TypeError, match=r"native\.NativeOnly is made by native code only: the struct has no default con"
    ):
        native.NativeOnly()
    made = await native.native_only(3)
    assert copy.copy(made).tracked.number == 3


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
    with pytest.raises(TypeError, match=what):
        await anext(native.never_made_events())


def test_a_record_is_made_once():
    with pytest.raises(TypeError, match=r"native\.Trade was made before: call aiobridge::record once"):
        native.make_record_again()
