"""What may go and what must stay, decided over lists."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hub.media import Purpose
from hub.retention import DAY_S, HOUR_S, Found, Gone, Kind, Report, expired, leftovers, orphans
from hub.task import Output, State, Task, drop_results

from .world import SHA, START, a_result, a_task

NOW = START + 100 * DAY_S


def found(kind: Kind = Kind.CONTENT, key: str = SHA, age: float = 2 * HOUR_S, path: str = "p") -> Found:
    return Found(kind, key, path, 10, NOW - age, (Purpose.VIDEO,))


@pytest.mark.parametrize(("file", "known", "goes"), [
    (found(), False, True),
    (found(), True, False),
    (found(age=HOUR_S - 1), False, False),
    (found(age=-DAY_S), False, False),  # a clock that was ahead
    (found(Kind.POSTER, "media-1"), False, True),
    (found(Kind.POSTER, "media-1"), True, False),
    (found(Kind.PART, SHA), True, True),
    (found(Kind.PART, SHA, age=60), False, False),
    (found(Kind.INCOMING, "upload-1", age=24 * HOUR_S), False, False),
    (found(Kind.INCOMING, "upload-1", age=26 * HOUR_S), False, True),
    (found(Kind.INCOMING, "upload-1", age=26 * HOUR_S), True, False),
])
def test_a_file_goes_when_no_record_points_at_it_and_nobody_can_be_making_it(
    file: Found, known: bool, goes: bool
) -> None:
    assert orphans([file], {file} if known else set(), NOW) == ([file] if goes else [])


def test_the_files_of_an_upload_go_together() -> None:
    old, young = (found(Kind.INCOMING, "upload-1", age, path) for age, path in ((90 * HOUR_S, "a"), (HOUR_S, "b")))
    assert orphans([old, young], (), NOW) == []
    both = [old, replace(young, changed_at=NOW - 26 * HOUR_S)]
    assert orphans(both, (), NOW) == both


def ended(state: State = State.COMPLETED, days_ago: float = 31, **changes: object) -> Task:
    outputs = (Output("upload", "result", "r.mp4", 9, SHA, 72),) if state is State.COMPLETED else ()
    return a_task(state=state, outputs=outputs, ended_at=NOW - days_ago * DAY_S, **changes)


def test_results_go_so_many_days_after_their_task_has_ended() -> None:
    old, young = ended(), ended(days_ago=29)
    assert expired([old, young], NOW, 30 * DAY_S) == [old]
    assert expired([old, young], NOW, 0.0) == []
    assert expired([drop_results(old, NOW)], NOW, 30 * DAY_S) == []
    assert expired([ended(State.FAILED), a_task()], NOW, 30 * DAY_S) == []


@pytest.mark.parametrize(("task", "goes"), [
    (None, True),
    (a_task(), False),
    (a_task(state=State.PROCESSING), False),
    (ended(State.FAILED), True),
    (ended(State.CANCELLED), True),
    (ended(), False),
    (drop_results(ended(), NOW), True),
    (replace(ended(), outputs=(Output("another", "result", "r.mp4", 9, SHA, 72),)), True),
])
def test_what_a_worker_sent_stays_as_long_as_a_task_has_it_or_may_take_it(task: Task | None, goes: bool) -> None:
    record = a_result(name="upload", version=1)
    record = replace(record, id="upload", task_id="task-1", created_at=NOW - 2 * DAY_S)
    tasks = {} if task is None else {"task-1": task}
    assert leftovers([record], tasks, NOW) == ([record] if goes else [])
    assert leftovers([replace(record, created_at=NOW - HOUR_S)], tasks, NOW) == []


def test_what_users_sent_is_never_a_leftover() -> None:
    record = replace(a_result(), purpose=Purpose.VIDEO, task_id=None, created_at=0.0)
    assert leftovers([record], {}, NOW) == []


def test_a_report_adds_up() -> None:
    assert Report(NOW, orphans=Gone(2, 5), results=Gone(1, 70), leftovers=Gone(1, 100)).freed == 175
