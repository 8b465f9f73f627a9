"""Work of one key is done in turn, and a defect is never silent."""

import asyncio

from blixard.drivers.tasks import Tasks


async def test_one_key_at_a_time_in_order_also_when_cancelled() -> None:
    tasks = Tasks()
    told: list[str] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await go_on.wait()
            told.append("first ended")

    async def tell(text: str) -> None:
        told.append(text)

    one = tasks.begin("a", first)
    two = tasks.begin("a", lambda: tell("never"))
    three = tasks.begin("a", lambda: tell("third"))
    other = tasks.begin("b", lambda: tell("other key"))
    await begun.wait()
    one.cancel()
    two.cancel()
    await asyncio.wait([two, other])
    assert told == ["other key"], "the third waits for the first, although the second was cancelled"
    go_on.set()
    await asyncio.wait([one, three])
    assert told == ["other key", "first ended", "third"]
    await tasks.close()


async def test_closing_lets_what_was_cancelled_end_in_peace() -> None:
    tasks = Tasks()
    ended = asyncio.Event()
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            ended.set()

    task = tasks.begin("a", work)
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    await tasks.close()
    assert ended.is_set()


async def test_a_defect_reaches_the_loop() -> None:
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: told.append(context["exception"])
    )

    async def work() -> None:
        raise AssertionError("ours")

    await asyncio.wait([Tasks().begin("a", work)])
    await asyncio.sleep(0)
    assert [str(defect) for defect in told] == ["ours"]
