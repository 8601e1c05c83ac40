"""What admins may do about users, and the numbers that they see."""

from __future__ import annotations

from tests.handlers.fake_worker import worker
from tests.handlers.running import Api, everything, fine, one_loop, refused

pytestmark = one_loop


async def test_users_are_listed_and_changed(api: Api) -> None:
    admin, person = await api.user("admin"), await api.user()
    [shown] = [each for each in await everything(admin, "/api/admin/users") if each["id"] == person.user.id]
    assert (shown["role"], shown["disabled"], shown["email"]) == ("user", False, person.user.email)
    assert not {"password_hash", "token_epoch"} & shown.keys()
    path = f"/api/admin/users/{person.user.id}"
    assert fine(await admin("PATCH", path, json_body={"role": "admin"}))["role"] == "admin"
    assert (await person.get("/api/admin/stats"))["users"] > 1
    assert fine(await admin("PATCH", path, json_body={"role": "user"}))["role"] == "user"
    refused(await person("GET", "/api/admin/stats"), 403, "forbidden")
    refused(await admin("PATCH", path, json_body={"role": "king"}), 422, "invalid")
    refused(await admin("PATCH", path, json_body={"weight": 0}), 422, "invalid")
    refused(await admin("PATCH", path, json_body={"weight": 101}), 422, "invalid")
    assert fine(await admin("PATCH", path, json_body={"weight": 3}))["weight"] == 3
    refused(await admin("PATCH", path, json_body={"email": "x@y.z"}), 422, "invalid")
    refused(await admin("PATCH", "/api/admin/users/x", json_body={}), 404, "not_found")


async def test_a_weight_counts_for_what_is_ordered_from_then_on(api: Api) -> None:
    admin, person = await api.user("admin"), await api.user()
    model = api.offer_model()
    tasks = api.hub.runner.core.tasks
    before = await person.create(model)
    fine(await admin("PATCH", f"/api/admin/users/{person.user.id}", json_body={"weight": 3}))
    after = await person.create(model)
    assert (tasks[before["id"]].weight, tasks[after["id"]].weight) == (1, 3)


async def test_a_disabled_user_is_out_at_once_and_may_come_back(api: Api) -> None:
    admin = await api.user("admin")
    account = {"email": "gone@test.example", "password": "a sentence that works"}
    made = fine(await api("POST", "/api/auth/register", json_body=account), 201)
    path = f"/api/admin/users/{made['user']['id']}"
    assert fine(await api("GET", "/api/auth/me", token=made["token"]))
    assert fine(await admin("PATCH", path, json_body={"disabled": True}))["disabled"] is True
    refused(await api("GET", "/api/auth/me", token=made["token"]), 401, "unauthorized")
    refused(await api("POST", "/api/auth/login", json_body=account), 403, "account_disabled")
    wrong = {**account, "password": "another sentence"}
    refused(await api("POST", "/api/auth/login", json_body=wrong), 401, "bad_credentials")
    fine(await admin("PATCH", path, json_body={"disabled": False}))
    refused(await api("GET", "/api/auth/me", token=made["token"]), 401, "unauthorized")
    fine(await api("POST", "/api/auth/login", json_body=account))


async def test_there_is_always_an_admin(api: Api) -> None:
    admin = await api.user("admin")
    others = [each for each in await everything(admin, "/api/admin/users") if each["role"] == "admin"]
    for other in others:
        if other["id"] != admin.user.id:
            fine(await admin("PATCH", f"/api/admin/users/{other['id']}", json_body={"role": "user"}))
    path = f"/api/admin/users/{admin.user.id}"
    refused(await admin("PATCH", path, json_body={"role": "user"}), 409, "last_admin")
    refused(await admin("PATCH", path, json_body={"disabled": True}), 409, "last_admin")
    assert (await admin.get("/api/admin/stats"))["users"] > 0


async def test_stats(api: Api) -> None:
    admin, person = await api.user("admin"), await api.user()
    before = await admin.get("/api/admin/stats")
    async with worker(api, slots=3) as one:
        await person.create(one.model)
        await one.take()
        stats = await admin.get("/api/admin/stats")
    assert stats["tasks"].keys() == {"waiting", "processing", "completed", "failed", "cancelled"}
    assert stats["tasks"]["processing"] == before["tasks"]["processing"] + 1
    assert stats["sessions"]["ready"] >= 1 and stats["slots"]["all"] >= 3
    assert stats["slots"]["free"] <= stats["slots"]["all"] - 1
    assert stats["disk"].keys() == {"data", "videos", "backgrounds", "output"}
    assert all(0 < space["free"] <= space["total"] for space in stats["disk"].values())
