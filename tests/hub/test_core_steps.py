"""What a decision costs: as many steps with many tasks waiting as with few, from a task's first moment to its last."""

from __future__ import annotations

import random
from itertools import count

import pytest

from hub.core import Core
from hub.messages import Accept, Assign, Failed, Offer, Renew

from .world import RULES, START, a_hello, a_task, lines_run, links, sent


@pytest.mark.parametrize("model", ["m", "nobody has it"])
def test_nothing_scans_a_life_costs_the_same_however_many_wait(model: str) -> None:
    """Those that wait are other users', for the same model or for another."""

    def steps(waiting: int) -> int:
        numbers = count()
        core = Core(RULES, lambda: f"id-{next(numbers)}", links, random.Random(1).random)
        core.join(a_hello(slots=2), START)
        others = [
            a_task(f"other-{number:06}", owner=f"user-{number % 5}", model=model, created_at=START - waiting + number)
            for number in range(waiting)
        ]
        core.boot(others, [], START)
        effects = core.dispatch(START)
        return lines_run(lambda: live(core, sent(effects)))

    few, many = steps(10), steps(20_000)
    assert many <= few + 300, "logarithms at most"


def live(core: Core, said: list[object]) -> None:
    """A new task comes; two tasks are worked on, told about and ended, and time passes."""
    [session], numbers = core.sessions, count(2)
    task = a_task("new", owner="zoe")
    said += sent(core.submit(task, START))
    core.outlook(task)
    offers = [message for message in said if isinstance(message, Offer)]
    assert offers
    for offer in offers:
        [assign] = sent(core.receive(session, Accept(n=next(numbers), offer=offer.offer), START))
        assert isinstance(assign, Assign)
        core.receive(session, Renew(n=next(numbers), lease=assign.lease), START + 1)
        core.tick(START + 1)
        core.outlook(core.tasks[assign.task])
        core.receive(session, Failed(n=next(numbers), lease=assign.lease, code="no", retryable=False), START + 2)
    core.tick(START + 3)
