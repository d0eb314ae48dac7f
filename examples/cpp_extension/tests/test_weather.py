import asyncio

import pytest
import weather


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


async def test_readings_are_events_until_the_block_is_left():
    station = weather.Station()
    async with station.readings(2) as readings:
        first, second = await anext(readings), await anext(readings)
        assert second.number == first.number + 1
        assert 20 <= first.celsius < 21
        assert station.subscriptions == 1
    assert station.subscriptions == 0  # leaving the block waits for it
    assert [reading async for reading in readings] == []


async def test_readings_are_arrays():
    numbers = []
    async with weather.Station().readings(1) as readings:
        async for block in readings.arrays(max_items=100, max_delay=60):
            assert block.dtype.names == ("number", "celsius")
            assert len(block) == 100
            assert 10 <= block["celsius"].min() <= block["celsius"].max() < 11
            numbers += block["number"].tolist()
            if len(numbers) == 300:
                break
    assert numbers == list(range(numbers[0], numbers[0] + 300))


async def test_a_slow_reader_gets_the_newest():
    async with weather.Station().readings(0, capacity=2) as readings:
        await until(lambda: readings.stats().evicted >= 10)
        assert (await anext(readings)).number > 10
        assert readings.dropped >= 10


async def test_a_stream_that_is_dropped_unsubscribes():
    station = weather.Station()
    readings = station.readings(0)
    await anext(readings)
    del readings
    await until(lambda: station.subscriptions == 0)


async def test_calibrate():
    station = weather.Station()
    offsets = await asyncio.gather(*(station.calibrate(sensor) for sensor in range(4)))
    assert offsets == pytest.approx([0.45, 10.45, 20.45, 30.45])
    with pytest.raises(RuntimeError, match="calibrate: Invalid argument"):
        await station.calibrate(0, readings=0)
    with pytest.raises(IndexError, match="no sensor 4; they are numbered from 0 to 3"):
        station.calibrate(4)


async def test_a_cancelled_calibration_is_aborted():
    station = weather.Station()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(station.calibrate(0, readings=2**30), 0.01)
    await until(lambda: station.calibrations == 0)


async def test_highest():
    assert await weather.Station().highest(3, readings=10) == pytest.approx(30.9)


async def test_a_cancelled_highest_stops():
    station = weather.Station()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(station.highest(0, readings=2**30), 0.01)
    # More calls than the pool has threads: they would wait for ever if the cancelled ones did not stop.
    endless = [station.highest(0, readings=2**30) for _ in range(100)]
    for future in endless:
        future.cancel()
    assert await station.highest(1) == pytest.approx(10.9)


async def test_inspect_asks_python():
    lines = []

    async def plausible(reading):
        await asyncio.sleep(0)
        return reading.celsius < 20

    assert await weather.Station().inspect(plausible, lines.append) == [2, 3]
    await until(lambda: len(lines) == 4)
    assert lines == ["sensor 0 is fine", "sensor 1 is fine", "sensor 2 has failed", "sensor 3 has failed"]


async def test_what_python_raises_reaches_who_asked():
    def plausible(reading):
        raise LookupError("no idea")

    with pytest.raises(RuntimeError, match="LookupError: no idea"):
        await weather.Station().inspect(plausible, print)
