"""The admin's JSON: who may come in, the queue with its reasons, the interface services, and moves on tasks."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from handlers import admin as handlers_admin
from hub.effects import Save
from hub.interface import Interface, OfferedModel
from hub.messages import Cancel, Drain, LeaseLost, Status
from hub.task import State
from tests.handlers.fake_worker import FakeWorker, worker
from tests.handlers.running import Api, eventually, everything, fine, one_loop, refused

pytestmark = one_loop

ROUTES = [
    ("GET", "/api/tasks/admin/pending"), ("GET", "/api/tasks/admin/interfaces"), ("GET", "/api/admin/interfaces"),
    ("POST", "/api/admin/interfaces"), ("PATCH", "/api/admin/interfaces/x"), ("DELETE", "/api/admin/interfaces/x"),
    ("POST", "/api/admin/interfaces/x/rotate"), ("GET", "/api/admin/users"), ("PATCH", "/api/admin/users/x"),
    ("GET", "/api/admin/tasks"), ("POST", "/api/admin/tasks/x/cancel"), ("POST", "/api/admin/tasks/x/requeue"),
    ("GET", "/api/admin/models"), ("DELETE", "/api/admin/models/x"), ("GET", "/api/admin/stats"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_p16_only_admins_come_in(api: Api, method: str, path: str) -> None:
    """Row 66 of the bad inputs: a user on admin routes is 403, nobody is 401."""
    user = await api.user()
    _, token = await api.interface()
    refused(await api(method, path, json_body={}), 401, "unauthorized")
    refused(await user(method, path, json_body={}), 403, "forbidden")
    refused(await api(method, path, json_body={}, token=token), 403, "forbidden")


@pytest.mark.parametrize("path", ["/api/tasks/admin/pending", "/api/admin/interfaces", "/api/admin/users"])
async def test_lists_refuse_what_they_do_not_know(api: Api, path: str) -> None:
    admin = await api.user("admin")
    for query in ("limit=0", "limit=x", "cursor=%24x", "sort=name"):
        refused(await admin("GET", f"{path}?{query}"), 400, "bad_query")
    refused(await admin("GET", "/api/admin/tasks?state=done"), 400, "bad_query")


# --- the queue --------------------------------------------------------------------------------------------------


async def test_p18_the_queue_is_told_oldest_first_with_reasons_and_owners(api: Api) -> None:
    admin, person, other = await api.user("admin"), await api.user(), await api.user()
    nobody = api.offer_model()
    async with worker(api) as one:
        busy = await person.create(one.model)
        await one.take()
        first = await other.create(nobody)
        second = await person.create(one.model)
        queue = {task["id"]: task for task in await everything(admin, "/api/tasks/admin/pending")}
        mine = [id for id in queue if id in (first["id"], second["id"])]
        assert mine == [first["id"], second["id"]] and busy["id"] not in queue
        assert queue[first["id"]]["blocked_by"] == "no_worker_for_model"
        assert queue[second["id"]]["blocked_by"] == "all_busy"
        assert queue[first["id"]]["owner"] == {"id": other.user.id, "email": other.user.email}
        assert 0 <= queue[second["id"]]["age"] <= queue[first["id"]]["age"] < 60


async def test_a_long_queue_is_looked_through_piece_by_piece(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers_admin, "PIECE", 2)
    admin, person, nobody = await api.user("admin"), await api.user(), api.offer_model()
    created = [(await person.create(nobody))["id"] for _ in range(7)]
    queue = [task["id"] for task in await everything(admin, "/api/tasks/admin/pending")]
    assert queue == sorted(queue) and set(created) <= set(queue)


async def test_how_many_wait_for_a_model_counts_what_is_on_offer(api: Api) -> None:
    admin, person = await api.user("admin"), await api.user()
    async with worker(api) as one:
        for _ in range(3):
            await person.create(one.model)
        assert any(one.model == api.hub.runner.core.tasks[id].model for id in api.hub.runner.core.offers.of)
        [model] = [each for each in (await admin.get("/api/admin/models"))["items"] if each["name"] == one.model]
        assert model["waiting"] == 3


async def test_everybodys_tasks(api: Api) -> None:
    admin, person, other = await api.user("admin"), await api.user(), await api.user()
    model = api.offer_model()
    first, second = await person.create(model), await other.create(model)
    tasks = await everything(admin, "/api/admin/tasks", state="waiting")
    assert [task["id"] for task in tasks if task["id"] in (first["id"], second["id"])] == [second["id"], first["id"]]
    [owned] = await everything(admin, "/api/admin/tasks", owner=person.user.id)
    assert (owned["id"], owned["owner"]["email"]) == (first["id"], person.user.email)


async def test_cancel_and_requeue_anybodys_task(api: Api) -> None:
    admin, person = await api.user("admin"), await api.user()
    async with worker(api) as one:
        task = await person.create(one.model)
        assign = await one.take()
        again = fine(await admin("POST", f"/api/admin/tasks/{task['id']}/requeue"))
        assert (again["state"], again["attempt"], again["owner"]["id"]) == ("waiting", 0, person.user.id)
        assert (await one.expect(Cancel)).lease == assign.lease
        await one.say(Status(slots_free=1))
        second = await one.take()
        await one.tell(assign, 50)
        assert (await one.expect(LeaseLost)).lease == assign.lease
        assert second.lease != assign.lease
        cancelled = fine(await admin("POST", f"/api/admin/tasks/{task['id']}/cancel"))
        assert cancelled["state"] == "cancelled"
        await one.say(Status(slots_free=1))
        fine(await admin("POST", f"/api/admin/tasks/{task['id']}/cancel"))
        assert fine(await admin("POST", f"/api/admin/tasks/{task['id']}/requeue"))["state"] == "waiting"
        fine(await admin("POST", f"/api/admin/tasks/{task['id']}/requeue"))
        await one.finish(await one.take())
        refused(await admin("POST", f"/api/admin/tasks/{task['id']}/requeue"), 409, "task_completed")
        refused(await admin("POST", f"/api/admin/tasks/{task['id']}/cancel"), 409, "task_completed")
    refused(await admin("POST", "/api/admin/tasks/nothing/cancel"), 404, "not_found")


# --- interface services -----------------------------------------------------------------------------------------


async def named(admin: Any, name: str, path: str = "/api/admin/interfaces") -> dict[str, Any]:
    [found] = [each for each in await everything(admin, path) if each["name"] == name]
    return found


async def test_a_service_is_shown_with_its_session_and_load(api: Api) -> None:
    admin, person = await api.user("admin"), await api.user()
    async with worker(api, slots=2) as one:
        task = await person.create(one.model)
        assign = await one.take()
        await one.tell(assign, 30)
        await eventually(lambda: api.hub.runner.core.tasks[task["id"]].progress == 30)
        for path in ("/api/admin/interfaces", "/api/tasks/admin/interfaces"):
            await eventually(lambda: one.name in api.hub.rooms.registry.records)
            shown = await named(admin, one.name, path)
            assert (shown["state"], shown["models"], shown["slots"]) == ("ready", [one.model], 2)
            assert shown["dialect"] == "worker"
            assert (shown["session"]["transport"], shown["session"]["slots_free"]) == ("websocket", 1)
            assert shown["running"] == [{
                "task": task["id"], "model": one.model, "phase": "segment", "progress": 30, "attempt": 1,
            }]
        await one.finish(assign)
        assert (await named(admin, one.name))["counts"] == {"completed": 1, "failed": 0}
        [model] = [each for each in (await admin.get("/api/admin/models"))["items"] if each["name"] == one.model]
        assert (model["interfaces"], model["workers_ready"], model["waiting"]) == ([one.name], 1, 0)
    session = api.hub.runner.core.session_of(one.name)
    assert session is not None
    await eventually(lambda: not session.attached)
    assert (await named(admin, one.name))["state"] == "offline"


async def test_a_model_that_nobody_offers_any_more_can_be_forgotten(api: Api) -> None:
    admin = await api.user("admin")
    async with worker(api) as one:
        refused(await admin("DELETE", f"/api/admin/models/{one.model}"), 409, "model_offered")
    session = api.hub.runner.core.session_of(one.name)
    assert session is not None
    api.hub.rooms.registry.dismiss(session, "the test is over")
    fine(await admin("DELETE", f"/api/admin/models/{one.model}"), 204)
    assert one.model not in [each["name"] for each in (await admin.get("/api/models"))["items"]]
    assert await api.hub.store.get(OfferedModel, one.model) is None
    refused(await admin("DELETE", f"/api/admin/models/{one.model}"), 404, "not_found")


@pytest.mark.parametrize("change", [{"paused": True}, {"drain": True}])
async def test_a_service_that_is_paused_while_it_is_away_gets_nothing_when_it_comes(
    api: Api, change: dict[str, bool]
) -> None:
    admin, person = await api.user("admin"), await api.user()
    async with worker(api) as one:
        session = api.hub.runner.core.session_of(one.name)
    assert session is not None
    api.hub.rooms.registry.dismiss(session, "it goes away")
    fine(await admin("PATCH", f"/api/admin/interfaces/{one.name}", json_body=change))
    task = await person.create(one.model)
    again = FakeWorker(api, one.name, one.token, one.model)
    await again.join()
    session = api.hub.runner.core.session_of(one.name)
    assert session is not None and session.paused and not session.offers
    await again.leave()
    fine(await person("POST", f"/api/tasks/{task['id']}/cancel"))


async def create(admin: Any, **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = fine(await admin("POST", "/api/admin/interfaces", json_body=fields), 201)
    return made


async def test_a_new_service_gets_its_token_once(api: Api) -> None:
    admin = await api.user("admin")
    made = await create(admin, name="box-1", note="the one under the desk", models=["a", "b:Model B"])
    assert (made["state"], made["note"]) == ("offline", "the one under the desk")
    assert made["registered_models"] == ["a", "b:Model B"]
    shown = await named(admin, "box-1")
    assert not {"token", "push_secret", "token_hash"} & shown.keys()
    one = FakeWorker(api, "box-1", made["token"], "a")
    await one.join()
    rotated = fine(await admin("POST", "/api/admin/interfaces/box-1/rotate"))
    assert rotated["token"] != made["token"]
    await one.leave()
    stale = FakeWorker(api, "box-1", made["token"], "a")
    with pytest.raises(Exception, match="401"):
        await stale.join()
    refused(await admin("POST", "/api/admin/interfaces", json_body={"name": "box-1"}), 409, "name_taken")


async def test_a_pushed_service_gets_a_secret_and_a_seed_one_nothing(api: Api) -> None:
    admin = await api.user("admin")
    pushed = await create(admin, name="push-1", dialect="push", address="http://10.1.2.3:8000", path="/hook")
    assert pushed["push_secret"].startswith("whsec_") and pushed["token"]
    seed = await create(admin, name="seed-1", dialect="seed", address="http://10.1.2.3:8001/", models=["a"])
    assert (seed["address"], seed["path"]) == ("http://10.1.2.3:8001", "/process")
    assert not {"token", "push_secret"} & seed.keys()
    refused(await admin("POST", "/api/admin/interfaces/seed-1/rotate"), 409, "conflict")
    same = {"name": "seed-2", "dialect": "seed", "address": "HTTP://10.1.2.3:8001"}
    refused(await admin("POST", "/api/admin/interfaces", json_body=same), 409, "name_taken")


@pytest.mark.parametrize(("fields", "pointer"), [
    ({"name": "a b"}, None), ({"name": ""}, None), ({"name": "x" * 65}, None), ({"name": "n", "slots": 0}, "/slots"),
    ({"name": "n", "slots": 65}, "/slots"), ({"name": "n", "models": ["a b"]}, "/models"),
    ({"name": "n", "models": ["a", "a:again"]}, "/models"), ({"name": "n", "note": "two\nlines"}, "/note"),
    ({"name": "n", "dialect": "seed"}, "/address"), ({"name": "n", "address": "http://10.1.1.1"}, "/address"),
    ({"name": "n", "dialect": "seed", "address": "http://10.1.1.1", "path": "process"}, "/path"),
    ({"name": "n", "dialect": "seed", "address": "http://10.1.1.1", "path": "/p?x"}, "/path"),
    ({"name": "n", "dialect": "telegraph"}, "/dialect"), ({"name": "n", "token_hash": "x"}, ""),
])
async def test_what_is_wrong_with_a_new_service(api: Api, fields: dict[str, Any], pointer: str | None) -> None:
    admin = await api.user("admin")
    problem = refused(await admin("POST", "/api/admin/interfaces", json_body=fields), 422, "invalid")
    if pointer is not None:
        assert problem["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize("address", [
    "http://2130706433", "http://127.1", "http://0x7f.0.0.1", "http://017700000001", "http://0", "http://0.0.0.0",
    "http://[::]", "http://[fe80::1]", "http://169.254.169.254", "http://127.0.0.1.", "http://224.0.0.1",
    "http://user@10.0.0.1", "file:///etc/passwd", "gopher://10.0.0.1", "http://10.0.0.1/?a=b", "//10.0.0.1", "",
])
async def test_row_128_the_hub_never_calls_such_an_address(api: Api, address: str) -> None:
    admin = await api.user("admin")
    fields = {"name": "bad", "dialect": "push", "address": address}
    refused(await admin("POST", "/api/admin/interfaces", json_body=fields), 422, "bad_url")


async def test_pause_and_resume(api: Api) -> None:
    admin, person = await api.user("admin"), await api.user()
    async with worker(api) as one:
        path = f"/api/admin/interfaces/{one.name}"
        paused = fine(await admin("PATCH", path, json_body={"paused": True, "note": "dust"}))
        assert (paused["state"], paused["note"]) == ("paused", "dust")
        task = await person.create(one.model)
        assert (await person.get(f"/api/tasks/{task['id']}"))["state"] == "waiting"
        assert fine(await admin("PATCH", path, json_body={"paused": False}))["state"] in ("ready", "busy")
        assert (await one.take()).task == task["id"]


async def test_drain_asks_the_service_to_finish(api: Api) -> None:
    admin = await api.user("admin")
    async with worker(api) as one:
        drained = fine(await admin("PATCH", f"/api/admin/interfaces/{one.name}", json_body={"drain": True}))
        assert (drained["state"], drained["draining"]) == ("draining", True)
        assert "admin" in (await one.expect(Drain)).reason
        resumed = fine(await admin("PATCH", f"/api/admin/interfaces/{one.name}", json_body={"drain": False}))
        assert resumed["state"] == "ready"


async def test_disabled_and_removed_services_have_to_go(api: Api) -> None:
    admin, person = await api.user("admin"), await api.user()
    for end in ("disable", "delete"):
        async with worker(api) as one:
            task = await person.create(one.model)
            await one.take()
            path = f"/api/admin/interfaces/{one.name}"
            if end == "disable":
                assert fine(await admin("PATCH", path, json_body={"enabled": False}))["state"] == "disabled"
            else:
                fine(await admin("DELETE", path), 204)
                refused(await admin("DELETE", path), 404, "not_found")
            assert (await one.closed())[0] == 4403
            await eventually(lambda: api.hub.runner.shown.open[task["id"]].state is State.WAITING)
            assert (await person.get(f"/api/tasks/{task['id']}"))["blocked_by"] == "no_worker_for_model"


async def test_a_pending_service_is_let_in(api: Api) -> None:
    admin = await api.user("admin")
    said = {"interfaceAddress": "http://10.9.8.7:8000", "Identification": api.hub.settings.interface_identification}
    fine(await api("POST", "/api/tasks/interface/heartbeat", json_body=said))
    await eventually(lambda: "10-9-8-7-8000" in api.hub.rooms.registry.records)
    assert (await named(admin, "10-9-8-7-8000"))["state"] == "pending"
    changes = {"pending": False, "models": ["m:Model M"], "slots": 2, "path": "/api/video/segment"}
    let_in = fine(await admin("PATCH", "/api/admin/interfaces/10-9-8-7-8000", json_body=changes))
    assert (let_in["state"], let_in["path"]) == ("offline", "/api/video/segment")
    fine(await api("POST", "/api/tasks/interface/heartbeat", json_body=said))
    here = await named(admin, "10-9-8-7-8000")
    assert (here["state"], here["session"]["transport"], here["models"], here["slots"]) == ("ready", "seed", ["m"], 2)
    fine(await admin("PATCH", "/api/admin/interfaces/10-9-8-7-8000", json_body={"models": ["n"], "slots": 3}))
    assert ((await named(admin, "10-9-8-7-8000"))["models"], api.hub.runner.core.ready_workers("n")) == (["n"], 1)
    fine(await admin("DELETE", "/api/admin/interfaces/10-9-8-7-8000"), 204)


async def test_what_another_process_changes_is_noticed(api: Api) -> None:
    """The command line writes records beside a running hub."""
    async with worker(api) as one:
        session = api.hub.runner.core.session_of(one.name)
        assert session is not None
        record = await api.hub.rooms.store.get(Interface, one.name)
        assert record is not None
        await api.hub.rooms.store.commit([Save(replace(record, paused=True, version=2), 1)])
        await eventually(lambda: session.free == 0)
        await api.hub.rooms.store.commit([Save(replace(record, paused=False, version=3), 2)])
        await eventually(lambda: session.free == 1)
        await api.hub.rooms.store.commit([Save(replace(record, enabled=False, version=4), 3)])
        assert (await one.closed())[0] == 4403
