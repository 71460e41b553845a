import asyncio

from quarry.collections.locks import NamedLocks


async def test_one_name_holds_itself_and_no_other() -> None:
    locks, gate = NamedLocks(), asyncio.Event()
    inside: list[str] = []

    async def enter(name: str) -> None:
        async with locks.hold(name):
            inside.append(name)
            await gate.wait()

    first, second = asyncio.create_task(enter("a")), asyncio.create_task(enter("a"))
    other = asyncio.create_task(enter("b"))
    while len(inside) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert sorted(inside) == ["a", "b"]
    gate.set()
    await asyncio.gather(first, second, other)
    assert sorted(inside) == ["a", "a", "b"]
    assert not locks._locks
