"""Native threads call Python, in four ways. None of them crashes, whatever thread it is and whatever it does."""

import asyncio

import from_native_threads


async def main():
    print(await from_native_threads.describe([1, 2, 3]))

    measured = []
    sensor = from_native_threads.Sensor(measured.append)
    await asyncio.to_thread(sensor.measure, 8)
    while len(measured) < 8:
        await asyncio.sleep(0.001)
    print(sorted(measured))

    done = []
    queue = from_native_threads.WorkQueue(threads=8)
    for number in range(10_000):
        queue.post(lambda number=number: done.append(number))
    await asyncio.to_thread(queue.close)
    while len(done) < 10_000:
        await asyncio.sleep(0.001)
    print(len(done), "callables went through the queue")

    said = asyncio.Event()
    from_native_threads.call_later(0.01, lambda word: (print(word), said.set()))
    await said.wait()


asyncio.run(main())
