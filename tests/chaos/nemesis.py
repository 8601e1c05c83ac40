"""What goes wrong in a round: a plan drawn from the seed before anything runs, and its carrying out.

Owns which faults there are and that each one is mended in the end.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from .network import Cable
from .processes import Supervised, send
from .proxy import HOWS
from .users import Told

KILLS = ("kill hub", "kill mongod", "kill worker")
OTHERS = ("kill model", "stop hub", "stop mongod", "stop worker", "cut worker", "cut users")
WEIGHTS = {**dict.fromkeys(KILLS, 2), **dict.fromkeys(OTHERS, 1), "cut worker": 2}
REST_S, STOP_S, CUT_S = 1.5, 7.0, 6.0
AT_HEEL = 0.35  # share of the faults that follow the one before within moments, whatever that did


@dataclass(frozen=True, slots=True)
class Fault:
    """`kind` strikes `after` seconds after `at` orders were accepted, and takes `seconds`; `target` picks a worker."""

    kind: str
    at: int
    after: float
    seconds: float
    target: int
    how: str


def plan(random: Random, orders: int, faults: int, first: str) -> list[Fault]:
    """`faults` of them, in their order; every kill is among them where they are three or more, `first` always."""
    kinds = [first, *(kill for kill in KILLS if kill != first)][:faults]
    kinds += random.choices(list(WEIGHTS), list(WEIGHTS.values()), k=faults - len(kinds))
    random.shuffle(kinds)
    moments = sorted(random.randint(2, max(2, orders - 2)) for _ in kinds)
    planned: list[Fault] = []
    for kind, at in zip(kinds, moments, strict=True):
        after = random.uniform(0.0, 0.4)
        if planned and random.random() < AT_HEEL:
            at, after = planned[-1].at, random.uniform(0.0, 1.5)
        longest = {"kill": REST_S, "stop": STOP_S, "cut": CUT_S}[kind.split()[0]]
        planned.append(Fault(
            kind, at, after, random.uniform(0.05, longest), random.randrange(1000), random.choice(HOWS),
        ))
    return planned


@dataclass(slots=True)
class Nemesis:
    """Carries out a plan on these processes and cables; `struck` counts what really happened."""

    hub: Supervised
    workers: list[Supervised]
    cables: list[Cable]
    users_cable: Cable
    told: Told
    tell: Callable[[str], None]
    struck: Counter[str]

    async def carry_out(self, faults: list[Fault]) -> None:
        """Strike as planned; everything is mended when this returns."""
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                await self.told.until(fault.at)
                await asyncio.sleep(fault.after)
                group.create_task(self.strike(fault))

    async def strike(self, fault: Fault) -> None:
        number = fault.target % len(self.workers)
        worker = self.workers[number]
        match fault.kind.split():
            case ["kill", "hub"]:
                there = self.hub.kill(fault.seconds)
            case ["kill", "worker"]:
                there = worker.kill(fault.seconds)
            case ["kill", "mongod"]:
                there = kill(self.hub.child("mongod"))
            case ["kill", "model"]:
                there = kill(worker.child("spawn_main"))
            case ["stop", what]:
                pid = {"hub": self.hub.pid, "mongod": self.hub.child("mongod"), "worker": worker.pid}[what]
                there = await self.stop(fault, worker.name, pid)
            case ["cut", "worker"]:
                there = await self.cut(fault, worker.name, self.cables[number])
            case _:
                there = await self.cut(fault, "everybody", self.users_cable)
        if fault.kind.startswith("kill"):
            whom = f" {worker.name}" if fault.kind.endswith(("worker", "model")) else ""
            self.tell(f"kill -9 of {fault.kind.split()[1]}{whom}{'' if there else ': nobody is there'}")
        self.struck[fault.kind if there else "nobody there"] += 1

    async def stop(self, fault: Fault, worker: str, pid: int) -> bool:
        if not pid or not send(pid, signal.SIGSTOP):
            self.tell(f"{fault.kind}: nobody is there")
            return False
        whom = f" {worker}" if fault.kind.endswith("worker") else ""
        self.tell(f"{fault.kind}{whom} for {fault.seconds:.1f} s")
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            send(pid, signal.SIGCONT)
        return True

    async def cut(self, fault: Fault, whom: str, cable: Cable) -> bool:
        self.tell(f"the line of {whom} is {cable.cut(fault.how)} for {fault.seconds:.1f} s")
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            cable.mend()
        return True


def kill(pid: int) -> bool:
    return bool(pid) and send(pid, signal.SIGKILL)
