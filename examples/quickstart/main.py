import asyncio

import quickstart


async def main():
    print(await quickstart.add(1, 2))
    async for number in quickstart.count(5):
        print(number)


asyncio.run(main())
