"""One contract for every store: memory, and MongoDB as the hub reaches it, through Motor alone, and through PyMongo."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace
from pymongo import AsyncMongoClient

from hub.account import Revocation, User
from hub.effects import Delete, Outcome, Save
from hub.errors import Unavailable
from hub.ids import new_id
from hub.interface import Interface, OfferedModel
from hub.media import Facts, Media, Purpose
from hub.ports import Store
from hub.task import Attempt, Lease, Output, Problem, Source, State, Task
from store.memory import MemoryStore
from store.mongo import CLIENT_OPTIONS, MongoStore, connect, connect_for_commits

KINDS = ["memory", *(pytest.param(kind, marks=pytest.mark.mongo) for kind in ("hub", "motor", "pymongo"))]
FACTS = Facts(640, 360, "30000/1001", 72, 2.4, 90, "h264", "yuv420p", "mp4", "aac", True)


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The kind of store and, for a real one, where it is."""
    return request.param, "" if request.param == "memory" else request.getfixturevalue("mongo_uri")


@pytest.fixture
async def store(place: tuple[str, str]) -> AsyncIterator[Store]:
    kind, uri = place
    if kind == "memory":
        yield MemoryStore()
        return
    commits = connect_for_commits(uri)
    client: Any = commits if kind == "pymongo" else connect(uri)
    database = f"contract_{new_id()}"
    mongo = MongoStore(client, database, "this-hub", commits if kind == "hub" else None)
    await mongo.prepare()
    yield mongo
    await client.drop_database(database)
    await commits.close()
    if client is not commits:
        client.close()


def a_task(**changes: Any) -> Task:
    source = Source(new_id(), "片.mp4", 1000, "a" * 64, "video/mp4", FACTS)
    return replace(Task(new_id(), "owner", "model", source, None, 1000.5), **changes)


async def test_what_was_saved_comes_back_whole(store: Store) -> None:
    task = a_task(
        background=Source("b", "b.jpg", 5, "b" * 64, "image/jpeg", Facts(10, 10)), options={"color": "#00ff00", "n": 1},
        state=State.COMPLETED, lease=Lease("lease", "worker", 1.5),
        outputs=(Output("m", "result", "r", 1, "c" * 64, 72),),
        attempts=(Attempt(1, "w", "worker_lost", "gone", 3.25),), problem=Problem("code", "détail"), request_key="k",
    )
    media = Media("m", "owner", Purpose.VIDEO, "n", "video/mp4", 1, "a" * 64, "b" * 32, FACTS, 1.0)
    others = [
        User("u", "a@b.c", "A", "admin", "hash", 1.0), Revocation("j", 4e9), Interface("i", "hash", 1.0, note="x"),
        OfferedModel("model", "alias", "what it does"), media, replace(media, id="n", facts=None),
    ]
    records = [task, *others]
    assert await store.commit([Save(record, 0) for record in records]) == [Outcome.DONE] * len(records)
    for record in records:
        assert await store.get(type(record), record.id) == record


@pytest.mark.parametrize("stored", [False, True], ids=["new", "changed"])
@pytest.mark.parametrize("changes", [
    {"message": "half a character: \ud800"}, {"priority": 2**63}, {"options": {"a\0b": 1}}, {"message": "x" * 2**24},
], ids=["surrogate", "integer", "name", "size"])
async def test_what_can_never_be_stored_is_not_taken_for_a_store_that_is_away(
    store: Store, changes: dict[str, Any], stored: bool
) -> None:
    """Nor is anything else kept from being stored by it, then."""
    task, other = a_task(), a_task()
    if stored:
        await store.commit([Save(task, 0)])
    bad = Save(replace(task, version=task.version + stored, **changes), int(stored))
    with pytest.raises(Exception) as refusal:
        await store.commit([Save(other, 0), bad])
    assert not isinstance(refusal.value, Unavailable)
    assert await store.commit([Save(other, 0)]) == [Outcome.DONE]
    assert await store.get(Task, task.id) == (task if stored else None)


async def test_p6_a_change_is_made_only_if_nobody_was_first(store: Store) -> None:
    task = a_task()
    await store.commit([Save(task, 0)])
    mine, theirs = replace(task, version=2, message="mine"), replace(task, version=2, message="theirs")
    assert await store.commit([Save(mine, 1)]) == [Outcome.DONE]
    other = await another_hub(store)
    assert await other.commit([Save(theirs, 1)]) == [Outcome.MISSED]
    assert await store.get(Task, task.id) == mine


async def test_the_same_commit_again_after_a_lost_answer_is_done(store: Store) -> None:
    task = a_task()
    first = [Save(task, 0)]
    later = [Save(replace(task, version=2), 1), Save(a_task(), 0)]
    assert await store.commit(first) == await store.commit(first) == [Outcome.DONE]
    assert await store.commit(later) == await store.commit(later) == [Outcome.DONE, Outcome.DONE]


async def test_p6_of_two_changes_by_one_hub_to_one_version_the_second_comes_too_late(store: Store) -> None:
    service = Interface("i", "hash", 1.0)
    await store.commit([Save(service, 0)])
    one, other = replace(service, paused=True, version=2), replace(service, enabled=False, version=2)
    assert await store.commit([Save(one, 1)]) == [Outcome.DONE]
    assert await store.commit([Save(other, 1)]) == [Outcome.MISSED]
    assert await store.commit([Save(one, 1)]) == [Outcome.DONE]
    assert await store.get(Interface, "i") == one


async def test_a_new_record_does_not_replace_one_of_another_hub(store: Store) -> None:
    task = a_task()
    await store.commit([Save(task, 0)])
    assert await (await another_hub(store)).commit([Save(replace(task, message="x"), 0)]) == [Outcome.MISSED]
    assert await store.get(Task, task.id) == task


async def test_unique_values_are_taken_once_and_the_rest_of_the_batch_is_done(store: Store) -> None:
    user = User("1", "a@b.c", "A", "user", "hash", 1.0)
    await store.commit([Save(user, 0)])
    fresh = replace(user, id="3", email="c@d.e")
    outcomes = await store.commit([Save(replace(user, id="2"), 0), Save(fresh, 0)])
    assert outcomes == [Outcome.TAKEN, Outcome.DONE]
    assert await store.get(User, "2") is None
    assert await store.find(User, email="c@d.e") == fresh


async def test_p5_one_request_key_makes_one_task_of_a_user(store: Store) -> None:
    assert await store.commit([Save(a_task(request_key="k"), 0)]) == [Outcome.DONE]
    assert await store.commit([Save(a_task(request_key="k"), 0)]) == [Outcome.TAKEN]
    assert await store.commit([Save(a_task(request_key="k", owner="other"), 0)]) == [Outcome.DONE]
    assert await store.commit([Save(a_task(), 0), Save(a_task(), 0)]) == [Outcome.DONE] * 2


async def test_mixed_kinds_and_deletions_in_one_commit_keep_their_order(store: Store) -> None:
    task, user = a_task(), User("1", "a@b.c", "A", "user", "hash", 1.0)
    await store.commit([Save(task, 0)])
    outcomes = await store.commit([Save(user, 0), Delete(Task, task.id), Save(replace(task, version=9), 8)])
    assert outcomes == [Outcome.DONE, Outcome.DONE, Outcome.MISSED]
    assert await store.get(Task, task.id) is None
    assert await store.commit([Delete(Task, task.id)]) == [Outcome.DONE]


async def test_p7_what_somebody_has_changed_meanwhile_is_not_deleted(store: Store) -> None:
    task, other = a_task(), a_task()
    await store.commit([Save(task, 0), Save(other, 0)])
    again = replace(task, version=2)
    await (await another_hub(store)).commit([Save(again, 1)])
    deletions = [Delete(Task, task.id, 1), Delete(Task, other.id, 1)]
    assert await store.commit(deletions) == [Outcome.MISSED, Outcome.DONE]
    assert (await store.get(Task, task.id), await store.get(Task, other.id)) == (again, None)
    assert await store.commit([Delete(Task, task.id, 2)]) == [Outcome.DONE]


async def test_the_same_deletion_again_after_a_lost_answer_is_done(store: Store) -> None:
    tasks = [a_task(), a_task()]
    await store.commit([Save(task, 0) for task in tasks])
    deletions = [Delete(Task, task.id, 1) for task in tasks]
    assert await store.commit(deletions[:1]) == [Outcome.DONE]
    assert await store.commit(deletions) == await store.commit(deletions) == [Outcome.DONE, Outcome.DONE]


async def test_pages_are_newest_first_and_continue_below_a_cursor(store: Store) -> None:
    tasks = [a_task(id=f"{number:03}", state=State.WAITING if number % 2 else State.FAILED) for number in range(10)]
    await store.commit([Save(task, 0) for task in tasks])
    first = await store.page(Task, 4, owner="owner")
    assert [task.id for task in first] == ["009", "008", "007", "006"]
    assert [task.id for task in await store.page(Task, 4, "006", owner="owner")] == ["005", "004", "003", "002"]
    waiting = await store.page(Task, 10, state=(State.WAITING, State.PROCESSING))
    assert [task.id for task in waiting] == ["009", "007", "005", "003", "001"]
    versions = await store.versions(Task, 2, "008", state=(State.WAITING, State.PROCESSING))
    assert versions == [("007", tasks[7].version), ("005", tasks[5].version)]
    assert await store.count(Task, state=State.FAILED, owner="owner") == 5
    assert await store.page(Task, 10, owner="nobody") == []


async def test_of_many_values_those_that_are_there_are_told(store: Store) -> None:
    hashes = [f"{number:064x}" for number in range(20)]
    video = Media("0", "owner", Purpose.VIDEO, "n", "video/mp4", 1, hashes[0], "b" * 32, FACTS, 1.0)
    twice = [replace(video, id=f"{number}", sha256=hashes[number // 2]) for number in range(20)]
    mask = replace(video, id="mask", sha256=hashes[19], purpose=Purpose.MASK)
    await store.commit([Save(record, 0) for record in [*twice, mask]])
    assert await store.present(Media, "sha256", hashes) == {*hashes[:10], hashes[19]}
    assert await store.present(Media, "sha256", hashes[5:], purpose=(Purpose.VIDEO,)) == set(hashes[5:10])
    assert await store.present(Media, "id", ["0", "mask", "none"]) == {"0", "mask"}
    assert await store.present(Media, "sha256", []) == await store.present(Task, "id", ["0"]) == set()


async def test_what_one_field_comes_to_is_told(store: Store) -> None:
    video = Media("0", "owner", Purpose.VIDEO, "n", "video/mp4", 0, "a" * 64, "b" * 32, FACTS, 1.0)
    sizes = [2**40, 5, 7]
    records = [replace(video, id=f"{number}", size=size) for number, size in enumerate(sizes)]
    await store.commit([Save(record, 0) for record in [*records, replace(video, id="mask", purpose=Purpose.MASK)]])
    assert await store.total(Media, "size", owner="owner", purpose=(Purpose.VIDEO,)) == sum(sizes)
    assert await store.total(Media, "size", owner="nobody") == 0


async def test_nested_fields_can_be_asked_for(store: Store) -> None:
    task = a_task()
    await store.commit([Save(task, 0), Save(a_task(), 0)])
    assert await store.count(Task, video__media_id=task.video.media_id, state=(State.WAITING,)) == 1


async def test_many_commits_at_once_lose_nothing(store: Store) -> None:
    tasks = [a_task() for _ in range(60)]
    await asyncio.gather(*(store.commit([Save(task, 0)]) for task in tasks))
    assert await store.count(Task, owner="owner") == 60


async def test_a_store_that_is_away_says_so() -> None:
    store = MemoryStore()
    store.away = True
    with pytest.raises(Unavailable):
        await store.commit([Save(a_task(), 0)])
    with pytest.raises(Unavailable):
        await store.get(Task, "x")


async def another_hub(store: Store) -> Store:
    """The same database through another hub's eyes."""
    if isinstance(store, MemoryStore):
        other = MemoryStore("another-hub")
        other.collections = store.collections
        return other
    assert isinstance(store, MongoStore)
    return MongoStore(store.client, store.database.name, "another-hub")


@pytest.mark.mongo
async def test_p3_a_crash_amid_a_batch_leaves_no_record_that_points_at_nothing(mongo_uri: str) -> None:
    class Dying(MongoStore):
        """A hub that is killed after so many kinds of a batch are written."""

        lives = 1

        async def write(self, kind: type[Any], changes: list[Save | Delete]) -> list[Outcome]:
            if not self.lives:
                raise Unavailable("killed")
            self.lives -= 1
            return await super().write(kind, changes)

    client: Any = AsyncMongoClient(mongo_uri, **CLIENT_OPTIONS)
    hub = MongoStore(client, f"contract_{new_id()}", "this-hub")
    dying = Dying(client, hub.database.name, "this-hub")
    media = Media(new_id(), "owner", Purpose.RESULT, "r.mp4", "video/mp4", 1, "a" * 64, "b" * 32, FACTS, 1.0)
    output = Output(media.id, media.purpose, media.name, media.size, media.sha256, 72)
    task = a_task(state=State.COMPLETED, outputs=(output,))
    with pytest.raises(Unavailable):
        await dying.commit([Save(task, 0), Save(media, 0)])
    assert (await hub.get(Task, task.id), await hub.get(Media, media.id)) == (None, media)
    await hub.commit([Save(task, 0)])
    dying.lives = 1
    with pytest.raises(Unavailable):
        await dying.commit([Delete(Media, media.id), Delete(Task, task.id)])
    assert (await hub.get(Task, task.id), await hub.get(Media, media.id)) == (None, media)
    await client.drop_database(hub.database.name)
    await client.close()


@pytest.mark.mongo
async def test_mongodb_keeps_no_record_of_its_own_of_what_was_committed(mongo_uri: str) -> None:
    """It does for writes that the driver may repeat, and that is a fifth of its work."""
    client, commits = connect(mongo_uri), connect_for_commits(mongo_uri)
    kept = client["config"]["transactions"]
    before = await kept.count_documents({})
    store = MongoStore(client, f"kept_{new_id()}", "this-hub", commits)
    assert await store.commit([Save(a_task(), 0) for _ in range(3)]) == [Outcome.DONE] * 3
    assert await kept.count_documents({}) == before
    await client.drop_database(store.database.name)
    await commits.close()
    client.close()
