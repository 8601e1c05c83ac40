"""Lists, records and other people's objects: rows 61 to 66 of the bad inputs."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress
from typing import Any

import pytest

from handlers import inputs
from hub.ids import new_id
from hub.media import Media
from tests.handlers.running import Answer, Api, fine, one_loop, refused, small_video

pytestmark = one_loop


async def test_row_61_another_s_objects_are_absent(api: Api) -> None:
    alice, bob = await api.user(), await api.user()
    model = api.offer_model()
    video, background = await alice.upload_video(), await alice.upload_background()
    task = await alice.create(model, video["id"])
    id = video["id"]
    for method, path in (
        ("GET", f"/api/videos/{id}"), ("DELETE", f"/api/videos/{id}"), ("GET", f"/api/uploads/{id}"),
        ("GET", f"/videos/{id}/v.mp4"), ("HEAD", f"/videos/{id}/v.mp4"), ("GET", f"/posters/{id}"),
        ("GET", f"/api/backgrounds/{background['id']}"), ("DELETE", f"/api/backgrounds/{background['id']}"),
        ("GET", f"/api/tasks/{task['id']}"), ("DELETE", f"/api/tasks/{task['id']}"),
        ("POST", f"/api/tasks/{task['id']}/cancel"), ("POST", f"/api/tasks/{task['id']}/retry"),
        ("GET", f"/output/{task['id']}/x.mp4"),
    ):
        async with api.unchanged():
            foreign = await bob(method, path)
            absent = await bob(method, path.replace(path.split("/")[-2 if "output" in path else -1], new_id()))
        assert foreign.status == 404, path
        if method != "HEAD":
            refused(foreign, 404, "not_found")
            assert absent.status == 404
    for other in ({"video_id": id}, {"video_id": (await bob.upload_video())["id"], "background_id": background["id"]}):
        async with api.unchanged():
            answer = await bob("POST", "/api/tasks", json_body={"model": model, **other})
        problem = refused(answer, 404, "not_found")
        assert problem["errors"][0]["pointer"] in ("/video_id", "/background_id")
    assert (await bob.get("/api/videos"))["items"][0]["id"] != id
    assert (await bob.get("/api/tasks"))["items"] == []
    assert fine(await bob("GET", f"/api/videos/check/{video['sha256']}"))["exists"]  # bob sent the same bytes himself
    carol = await api.user()
    assert not fine(await carol("GET", f"/api/videos/check/{video['sha256']}"))["exists"]


@pytest.mark.parametrize("id", [
    "x", "0" * 24, "a" * 5000, "%00", "%2e%2e", "00000000-0000-7000-8000-000000000000", "$ne",
])
async def test_row_62_ids_that_are_none_are_not_found(api: Api, id: str) -> None:
    person = await api.user()
    for path in (f"/api/videos/{id}", f"/api/tasks/{id}", f"/api/uploads/{id}", f"/videos/{id}/x", f"/posters/{id}"):
        refused(await person("GET", path), 404, "not_found")
    refused(await person("DELETE", f"/api/videos/{id}"), 404, "not_found")
    refused(await person("POST", f"/api/tasks/{id}/cancel", b""), 404, "not_found")


@pytest.mark.parametrize("query", [
    "limit=-1", "limit=0", "limit=201", "limit=1e9", "limit=1000000000", "limit=NaN", "limit=", "limit=%D9%A1",
    "limit=1&limit=x", "cursor=x", "cursor=", "cursor=0", "cursor[$gt]=", "sort=-password_hash", "fields=password_hash",
    "filter={}", "state=done", "state[$ne]=x", "owner=x",
])
async def test_rows_63_and_64_arguments_that_a_list_does_not_take_are_400(api: Api, query: str) -> None:
    refused(await (await api.user())("GET", f"/api/tasks?{query}"), 400, "bad_query")


async def test_lists_are_newest_first_and_go_on_at_the_cursor(api: Api) -> None:
    person, model = await api.user(), api.offer_model()
    video = await person.upload_video()
    made = [(await person.create(model, video["id"]))["id"] for _ in range(5)]
    seen, cursor = [], ""
    while True:
        page = await person.get(f"/api/tasks?limit=2{cursor}")
        seen.append([task["id"] for task in page["items"]])
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    newest_first = made[::-1]
    assert seen == [newest_first[:2], newest_first[2:4], newest_first[4:]]
    fine(await person("POST", f"/api/tasks/{made[0]}/cancel", b""))
    assert [task["id"] for task in (await person.get("/api/tasks?state=cancelled"))["items"]] == made[:1]
    assert len((await person.get("/api/tasks?state=waiting"))["items"]) == 4


async def test_what_is_known_is_not_sent_again(api: Api) -> None:
    person = await api.user()
    video = await person.upload_video()
    for path in ("/api/videos", f"/api/videos/{video['id']}", "/api/models"):
        first = await person("GET", path)
        tag = first.headers["etag"]
        for known in (tag, f'"x", {tag}', f"W/{tag}", "*"):
            again = await person("GET", path, headers={"If-None-Match": known})
            assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
        assert (await person("GET", path, headers={"If-None-Match": '"other"'})).status == 200
        head = await person("HEAD", path)
        assert (head.status, head.body, head.headers["etag"]) == (200, b"", tag)
    await person.upload_video()
    assert (await person("GET", "/api/videos", headers={"If-None-Match": tag})).status == 200


async def test_a_video_s_record_says_what_the_probe_found(api: Api) -> None:
    person = await api.user()
    video = await person.upload_video()
    content = small_video()
    assert {name: video[name] for name in ("width", "height", "frames", "codec", "has_audio", "rotation", "fps")} == {
        "width": 64, "height": 64, "frames": 3, "codec": "h264", "has_audio": False, "rotation": 0, "fps": "30/1",
    }
    assert (video["size"], video["name"], video["state"]) == (len(content), "v.mp4", "ready")
    assert video["sha256"] == hashlib.sha256(content).hexdigest() and video["md5"] == hashlib.md5(content).hexdigest()
    assert await person.get(f"/api/videos/{video['id']}") == video and not video["variable_frame_rate"]
    strip = await api("GET", video["strip_url"])
    assert strip.headers["content-type"] == "image/jpeg" and strip.body != (await api("GET", video["poster_url"])).body
    refused(await api("GET", video["strip_url"].replace(video["id"], new_id())), 403, "link_invalid")
    upload = await person.get(f"/api/uploads/{video['id']}")
    assert (upload["state"], upload["purpose"], upload["offset"]) == ("ready", "video", len(content))


async def test_a_file_is_recognised_by_its_hashes(api: Api) -> None:
    person = await api.user()
    video = await person.upload_video()
    for digest in (video["md5"], video["sha256"], video["md5"].upper()):
        found = await person.get(f"/api/videos/check/{digest}")
        assert found["exists"] and found["video"]["id"] == video["id"]
    assert await person.get(f"/api/videos/check/{'0' * 32}") == {"exists": False, "video": None}
    assert await person.get(f"/api/backgrounds/check/{video['md5']}") == {"exists": False, "background": None}
    assert not (await person.get("/api/videos/check/abc"))["exists"]
    refused(await person("GET", "/api/videos/check/xyz"), 404, "not_found")
    refused(await person("DELETE", f"/api/videos/check/{video['md5']}"), 405, "method_not_allowed")


async def test_equal_content_is_kept_once_until_its_last_record_goes(api: Api) -> None:
    alice, bob = await api.user(), await api.user()
    content = small_video() + b"\0\0\0\x10free" + new_id()[:8].encode()
    first, second = await alice.upload_video(content), await bob.upload_video(content)
    assert first["id"] != second["id"] and first["sha256"] == second["sha256"]
    kept = [name for name in api.files() if name.endswith(first["sha256"])]
    assert len(kept) == 1
    fine(await alice("DELETE", f"/api/videos/{first['id']}"), 204)
    assert (await api("GET", second["content_url"])).body == content
    refused(await api("GET", first["content_url"]), 404, "not_found")
    fine(await bob("DELETE", f"/api/videos/{second['id']}"), 204)
    assert not [name for name in api.files() if first["sha256"] in name or first["id"] in name or second["id"] in name]
    refused(await alice("DELETE", f"/api/videos/{first['id']}"), 404, "not_found")


async def test_p3_a_record_never_loses_its_bytes_to_the_deletion_of_their_equals(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P3: Bob's upload of the same content comes between Alice's look for other records and the removal."""
    alice, bob = await api.user(), await api.user()
    content = small_video() + b"\0\0\0\x10free" + new_id()[:8].encode()
    first = await alice.upload_video(content)
    store, looked, sent = api.hub.rooms.store, asyncio.Event(), asyncio.Event()
    count = store.count

    async def count_and_dawdle(kind: Any, **equal: Any) -> int:
        found = await count(kind, **equal)
        if "sha256" in equal:
            looked.set()
            with suppress(TimeoutError):
                await asyncio.wait_for(sent.wait(), 0.4)
        return found

    monkeypatch.setattr(store, "count", count_and_dawdle)
    deleting = asyncio.create_task(alice("DELETE", f"/api/videos/{first['id']}"))
    await looked.wait()
    second = await bob.upload_video(content)
    sent.set()
    fine(await deleting, 204)
    assert (await api("GET", second["content_url"])).body == content


async def test_a_file_is_not_deleted_under_a_task_that_is_just_being_made(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever comes first wins: the task has its video, or there is no task."""
    person, model, store = await api.user(), api.offer_model(), api.hub.rooms.store
    reached, go_on = asyncio.Event(), asyncio.Event()
    real_get, real_count = store.get, store.count

    async def dawdle(result: Any) -> Any:
        reached.set()
        await asyncio.wait_for(go_on.wait(), 10)
        return result

    async def get(kind: Any, id: str) -> Any:
        found = await real_get(kind, id)
        return await dawdle(found) if id == video["id"] and not reached.is_set() else found

    async def count(kind: Any, **equal: Any) -> int:
        found = await real_count(kind, **equal)
        return int(await dawdle(found) if "video__media_id" in equal and not reached.is_set() else found)

    video = await person.upload_video()
    with monkeypatch.context() as slow:
        slow.setattr(store, "get", get)
        making = asyncio.create_task(person("POST", "/api/tasks", json_body={"video_id": video["id"], "model": model}))
        await reached.wait()
        refused(await person("DELETE", f"/api/videos/{video['id']}"), 409, "in_use")
        go_on.set()
        task = fine(await making, 201)
    fine(await person("POST", f"/api/tasks/{task['id']}/cancel", b""))
    reached.clear()
    go_on.clear()
    with monkeypatch.context() as slow:
        slow.setattr(store, "count", count)
        deleting = asyncio.create_task(person("DELETE", f"/api/videos/{video['id']}"))
        await reached.wait()
        order = {"video_id": video["id"], "model": model}
        refused(await person("POST", "/api/tasks", json_body=order), 404, "not_found")
        refused(await person("POST", f"/api/tasks/{task['id']}/retry", b""), 404, "not_found")
        go_on.set()
        fine(await deleting, 204)
    refused(await person("POST", f"/api/tasks/{task['id']}/retry", b""), 404, "not_found")
    assert (await person.get(f"/api/tasks/{task['id']}"))["state"] == "cancelled"


async def test_a_file_that_an_open_task_needs_stays(api: Api) -> None:
    person, model = await api.user(), api.offer_model()
    video, background = await person.upload_video(), await person.upload_background()
    task = await person.create(model, video["id"], background_id=background["id"])

    async def delete(what: str, id: str) -> Answer:
        return await person("DELETE", f"/api/{what}/{id}")

    async with api.unchanged():
        refused(await delete("videos", video["id"]), 409, "in_use")
        refused(await delete("backgrounds", background["id"]), 409, "in_use")
        refused(await delete("tasks", task["id"]), 409, "task_waiting")
    fine(await person("POST", f"/api/tasks/{task['id']}/cancel", b""))
    fine(await delete("videos", video["id"]), 204)
    assert (await person.get(f"/api/tasks/{task['id']}"))["video"]["name"] == "v.mp4"
    fine(await delete("tasks", task["id"]), 204)
    fine(await delete("backgrounds", background["id"]), 204)


async def test_a_deleted_file_is_no_input_any_more(api: Api) -> None:
    """Also for whoever has just ordered a task for it: what was read for that one is forgotten."""
    person, model = await api.user(), api.offer_model()
    video = await person.upload_video()
    task = await person.create(model, video["id"])
    fine(await person("POST", f"/api/tasks/{task['id']}/cancel"), 200)
    fine(await person("DELETE", f"/api/videos/{video['id']}"), 204)
    again = await person("POST", "/api/tasks", json_body={"video_id": video["id"], "model": model})
    refused(again, 404, "not_found")


async def test_many_tasks_for_one_video_read_it_once(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    person, model, store = await api.user(), api.offer_model(), api.hub.rooms.store
    video, get, read = await person.upload_video(), store.get, []

    async def watched(kind: Any, id: str) -> Any:
        read.append((kind, id))
        return await get(kind, id)

    monkeypatch.setattr(store, "get", watched)
    monkeypatch.setattr(inputs, "KEPT_S", 600.0)
    for _ in range(5):
        await person.create(model, video["id"])
    assert read.count((Media, video["id"])) == 1
