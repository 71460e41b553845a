"""The server's own loop turns what is due, one after another, by a clock that the test moves."""

import asyncio
from collections.abc import Sequence

from tests.unit.training.loops import loop_report

from quarry.config import LoopSettings
from quarry.errors import UnavailableError
from quarry.training.loop_spec import LoopReport
from quarry_server.training.loop import LOOK_S, LoopSchedule

HOUR_S = 3_600


class Clock:
    """Sleeping moves it; after ``until_s`` it stops whoever sleeps."""

    def __init__(self, until_s: float) -> None:
        self.now_s, self.until_s = 100 * HOUR_S * 1.0, 100 * HOUR_S + until_s

    def us(self) -> int:
        return round(self.now_s * 1e6)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.now_s += seconds
        if self.now_s > self.until_s:
            raise asyncio.CancelledError


class Turns:
    """Which collection had its turn when, in seconds from the start; a turn takes ``takes_s``."""

    def __init__(self, clock: Clock, takes_s: float = 0) -> None:
        self.clock, self.takes_s = clock, takes_s
        self.made: list[tuple[str, float]] = []
        self.turned_us: dict[str, int] = {}
        self.errors: dict[str, Exception] = {}
        self.there = ["faq", "web"]

    async def __call__(self, name: str) -> LoopReport:
        self.made.append((name, self.clock.now_s - 100 * HOUR_S))
        self.clock.now_s += self.takes_s
        if name in self.errors:
            raise self.errors[name]
        self.turned_us[name] = self.clock.us()
        return loop_report()

    async def list_collections(self) -> Sequence[str]:
        return self.there

    async def last(self, name: str) -> int:
        return self.turned_us.get(name, 0)

    async def run(self, **settings: object) -> list[tuple[str, float]]:
        schedule = LoopSchedule(
            LoopSettings.model_validate(settings),
            self.list_collections,
            self.last,
            self,
            self.clock.us,
            self.clock.sleep,
        )
        try:
            await schedule.run()
        except asyncio.CancelledError:
            return self.made


async def test_every_collection_turns_when_its_hours_are_over() -> None:
    turns = Turns(Clock(5 * HOUR_S))
    made = await turns.run(every_hours=2)
    assert [name for name, _ in made] == ["faq", "web"] * 3
    for name in ("faq", "web"):
        times = [at for one, at in made if one == name]
        assert times == [LOOK_S, LOOK_S + 2 * HOUR_S, LOOK_S + 4 * HOUR_S]


async def test_a_restart_waits_for_what_is_left_of_the_hours() -> None:
    turns = Turns(Clock(3 * HOUR_S))
    turns.turned_us["faq"] = turns.clock.us() - HOUR_S * 10**6
    made = await turns.run(every_hours=2, collections=["faq"])
    assert [at for _, at in made] == [HOUR_S, 3 * HOUR_S]


async def test_only_the_collections_that_are_named_and_there_turn() -> None:
    made = await Turns(Clock(HOUR_S / 2)).run(every_hours=1, collections=["web", "gone"])
    assert [name for name, _ in made] == ["web"]


async def test_who_waits_longest_turns_first() -> None:
    turns = Turns(Clock(HOUR_S), takes_s=600)
    turns.turned_us = {"faq": turns.clock.us() - 5 * HOUR_S * 10**6, "web": 0}
    made = await turns.run(every_hours=3)
    assert made[:2] == [("web", LOOK_S), ("faq", LOOK_S + 600)]


async def test_a_failure_is_tried_again_when_it_is_due_and_stops_nobody_else() -> None:
    turns = Turns(Clock(3.5 * HOUR_S))
    turns.errors = {"faq": UnavailableError("killed"), "web": RuntimeError("a bug")}
    turns.there = ["faq", "web", "wiki"]
    made = await turns.run(every_hours=2)
    assert [name for name, _ in made] == ["faq", "web", "wiki"] * 2


async def test_without_hours_nothing_runs() -> None:
    turns = Turns(Clock(HOUR_S))
    schedule = LoopSchedule(LoopSettings(), turns.list_collections, turns.last, turns)
    schedule.start()
    await asyncio.sleep(0)
    await schedule.close()
    assert not turns.made


async def test_it_ends_when_it_is_closed() -> None:
    turns = Turns(Clock(HOUR_S))
    schedule = LoopSchedule(LoopSettings(every_hours=1), turns.list_collections, turns.last, turns)
    schedule.start()
    await asyncio.sleep(0)
    await schedule.close()
