"""The older dialect: services that speak nothing else register, take tasks and hand over what they made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handlers import worker_seed
from handlers.shared_files import SharedFiles
from hub.errors import DiskFull
from hub.media import Media
from hub.seed import SeedJob
from tests.handlers import seed_service
from tests.handlers.running import Api, Place, eventually, fine, metadata, one_loop, running_hub, small_video
from tests.handlers.seed_service import (
    Process, Service, beside, fine_bytes, jobs, ordered, present, refused_too, settings, state,
)
from tests.odd_media import silent, write_clip

hub, service = seed_service.hub, seed_service.service
pytestmark = one_loop


# --- a whole task ---------------------------------------------------------------------------------------------


async def test_the_order_has_all_that_the_dialect_says(api: Api, service: Service) -> None:
    person = await api.user()
    background = await person.upload_background()
    task = await person.create(service.model, background_id=background["id"])
    order = await service.order()
    assert order.keys() == {
        "taskId", "videoPath", "foregroundPath", "backgroundPath", "modelName", "modelAlias", "callbackUrl",
        "workerUrl", "videoUrl", "backgroundUrl", "resultUploadUrl",
    }
    assert service.paths == ["/process"]
    assert (order["taskId"], order["modelName"], order["modelAlias"]) == (task["id"], service.model, "Fine")
    assert order["workerUrl"] == service.address
    assert Path(order["videoPath"]).read_bytes() == small_video()
    assert Path(order["videoPath"]).suffix == ".mp4" and Path(order["backgroundPath"]).suffix == ".jpg"
    assert Path(order["foregroundPath"]).parent.is_dir() and not Path(order["foregroundPath"]).exists()
    base = api.hub.settings.api_base_url
    video = fine_bytes(await api("GET", order["videoUrl"].removeprefix(base)))
    assert video == small_video()
    assert len(fine_bytes(await api("GET", order["backgroundUrl"].removeprefix(base)))) == background["size"]


async def test_a_task_by_the_shared_folder(api: Api, service: Service) -> None:
    """P19 holds for the older dialect too: what was named is taken, decoded and compared."""
    service.reply = lambda order: (200, {"status": "accepted", "compositeVideoPath": beside(order, "made.mp4")})
    person, task, order = await ordered(api, service)
    assert (await person.get(f"/api/tasks/{task['id']}"))["worker"] == service.name
    assert fine(await service.call(order, "Processing", progress=40, message="half"))["success"] is True
    await eventually(lambda: api.hub.runner.core.tasks[task["id"]].progress == 40)
    shutil.copy(order["videoPath"], beside(order, "made.mp4"))
    assert fine(await service.call(order, "completed", progress=100)) == {"success": True, "message": "callback taken"}
    done = await state(person, task, "completed")
    assert fine_bytes(await api("GET", done["result"]["video"]["url"])) == small_video()
    await eventually(lambda: not jobs(api, service) and not Path(order["foregroundPath"]).parent.exists())
    assert await api.hub.rooms.store.count(SeedJob, worker=service.name) == 0
    assert fine_bytes(await person("GET", done["video"]["content_url"])) == small_video()


async def test_a_result_in_the_place_that_was_offered(api: Api, service: Service) -> None:
    person, task, order = await ordered(api, service)
    shutil.copy(order["videoPath"], order["foregroundPath"])
    fine(await service.call(order, "COMPLETED"))
    await state(person, task, "completed")


def in_a_form(field: str, data: bytes) -> tuple[bytes, dict[str, str]]:
    """A body, and its headers, with one file in that field."""
    head = f'--x\r\nContent-Disposition: form-data; name="{field}"; filename="r.mp4"\r\n\r\n'.encode()
    return head + data + b"\r\n--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}


UPLOADS: list[tuple[str, Callable[[bytes], tuple[bytes, dict[str, str]]]]] = [
    ("raw", lambda data: (data, {"Content-Type": "video/mp4"})),
    ("form", lambda data: in_a_form("file", data)),
    ("tus", lambda data: (data, {
        "Tus-Resumable": "1.0.0", "Upload-Length": str(len(data)), "Upload-Metadata": metadata(purpose="result"),
        "Content-Type": "application/offset+octet-stream",
    })),
]


@pytest.mark.parametrize(("way", "made"), UPLOADS, ids=[way for way, _ in UPLOADS])
async def test_a_task_by_urls(
    api: Api, service: Service, way: str, made: Callable[[bytes], tuple[bytes, dict[str, str]]],
) -> None:
    service.reply = lambda order: (200, {"status": "accepted", "compositeVideoPath": "/on/my/own/disk.mp4"})
    person, task, order = await ordered(api, service)
    body, headers = made(small_video())
    path = order["resultUploadUrl"].removeprefix(api.hub.settings.api_base_url)
    assert fine(await api("POST", path, body, headers), 201)["size"] == len(small_video())
    fine(await service.call(order, "COMPLETED"))
    await state(person, task, "completed")
    refused_too(await api("POST", path, body, headers), 409, "lease_lost")


async def test_a_mask_stands_beside_the_result_or_is_left_out(api: Api, service: Service, tmp_path: Path) -> None:
    """A mask has no sound; one that cannot be shown does not spoil the task."""
    loud = tmp_path / "loud.mp4"
    write_clip(loud, audio="aac")
    service.reply = lambda order: (200, {
        "status": "accepted", "compositeVideoPath": order["foregroundPath"], "maskVideoPath": beside(order, "mask.mp4"),
    })
    for mask, expected in ((silent().read_bytes(), {"video", "mask"}), (b"no video at all", {"video"})):
        person = await api.user()
        video = fine(await person.upload(loud.read_bytes()), 201)
        assert video["has_audio"]
        task = await person.create(service.model, video["id"])
        order = await service.order()
        shutil.copy(loud, order["foregroundPath"])
        Path(beside(order, "mask.mp4")).write_bytes(mask)
        fine(await service.call(order, "COMPLETED"))
        assert (await state(person, task, "completed"))["result"].keys() == expected


async def test_a_mask_that_is_sent_in_its_field_stands_beside_the_result(
    api: Api, service: Service, tmp_path: Path,
) -> None:
    """Both go to the one address that the order names: the field says which is which."""
    loud = tmp_path / "loud.mp4"
    write_clip(loud, audio="aac")
    person = await api.user()
    video = fine(await person.upload(loud.read_bytes()), 201)
    task = await person.create(service.model, video["id"])
    order = await service.order()
    path = order["resultUploadUrl"].removeprefix(api.hub.settings.api_base_url)
    made = {"video": loud, "mask": silent()}
    sent = [fine(await api("POST", path, *in_a_form(field, file.read_bytes())), 201) for field, file in made.items()]
    fine(await service.call(order, "COMPLETED"))
    result = (await state(person, task, "completed"))["result"]
    assert [result[name]["sha256"] for name in made] == [file["sha256"] for file in sent]


async def test_the_address_says_more_than_the_field(api: Api, service: Service) -> None:
    _, _, order = await ordered(api, service)
    path = order["resultUploadUrl"].removeprefix(api.hub.settings.api_base_url)
    fine(await api("POST", f"{path}&purpose=result", *in_a_form("mask", small_video())), 201)
    [job] = jobs(api, service).values()
    assert job.record.sent.keys() == {"result"}


async def test_a_mask_that_is_too_large_is_left_out(place: Place) -> None:
    async with running_hub(place, **settings(RESULT_FILE_SIZE_LIMIT="0.1")) as hub:
        api = Api(hub, place.folder)
        service = Service(api)
        service.reply = lambda order: (200, {"status": "accepted", "maskVideoPath": beside(order, "mask.mp4")})
        await service.register()
        fine(await service.heartbeat())
        person, task, order = await ordered(api, service)
        shutil.copy(order["videoPath"], order["foregroundPath"])
        Path(beside(order, "mask.mp4")).write_bytes(b"x" * 200_000)
        fine(await service.call(order, "COMPLETED"))
        assert (await state(person, task, "completed"))["result"].keys() == {"video"}
        await service.stop()
        api.close()


@pytest.mark.parametrize("failures", [1, worker_seed.TRIES])
async def test_a_result_for_which_the_hub_has_no_room_is_taken_later_or_held_against_nobody(
    api: Api, service: Service, failures: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_seed, "PAUSE_S", 0)
    take, full = SharedFiles.take, [DiskFull("no room")] * failures

    async def late(*arguments: Any) -> Media:
        if full:
            raise full.pop()
        return await take(*arguments)

    monkeypatch.setattr(SharedFiles, "take", late)
    person, task, order = await ordered(api, service)
    Path(order["foregroundPath"]).write_bytes(small_video())
    fine(await service.call(order, "COMPLETED"))
    if failures < worker_seed.TRIES:
        await state(person, task, "completed")
    else:
        await state(person, task, "waiting")
        assert api.hub.runner.core.tasks[task["id"]].attempts[0].code == "verification_failed"
        assert service.name not in api.hub.runner.core.presence.suspicions.records
    assert caplog.text.count("seed_result_not_taken") == failures
    caplog.clear()


async def test_a_service_that_works_before_it_answers(api: Api, service: Service) -> None:
    """Some do everything within the POST: the callbacks come before the word that the task is taken."""
    person = await api.user()
    held: dict[str, Any] = {}

    async def work(order: dict[str, Any]) -> None:
        shutil.copy(order["videoPath"], order["foregroundPath"])
        held["answers"] = [await service.call(order, word) for word in ("PENDING", "PROCESSING", "COMPLETED")]

    class Slow(Process):
        async def post(self) -> None:  # type: ignore[override]
            await work(json.loads(self.request.body))
            super().post()

    service.server.request_callback = service.application(Slow)
    task = await person.create(service.model)
    await service.order()
    await state(person, task, "completed")
    assert [answer.status for answer in held["answers"]] == [200, 200, 200]


# --- who takes it, and who does not ----------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "answer"), [
    (200, {"status": "fail", "message": "no GPU is free"}), (200, {"status": "FAIL"}), (200, "text"), (200, {}),
    (500, {"status": "accepted"}), (202, {"status": "accepted"}), (302, ""), (200, "[" * 100_000),
])
async def test_a_refused_task_waits_again(api: Api, service: Service, status: int, answer: Any) -> None:
    service.reply = lambda order: (status, answer)
    person = await api.user()
    task = await person.create(service.model)
    await service.order()
    await state(person, task, "waiting")
    left = api.hub.runner.core.tasks[task["id"]]
    assert (left.attempt, [each.code for each in left.attempts]) == (0, ["refused"])
    assert service.name in api.hub.runner.core.dispatcher.left_out[task["id"]]
    assert not jobs(api, service)
    fine(await person("POST", f"/api/tasks/{task['id']}/cancel"))


async def test_p12_a_path_that_no_database_takes_keeps_nothing_from_being_stored(api: Api, service: Service) -> None:
    """Half a character in it; the file is looked for in the place that was offered, and the hub takes more orders."""
    service.reply = lambda order: (200, {"status": "accepted", "compositeVideoPath": "/share/\ud800.mp4"})
    person, task, _ = await ordered(api, service)
    await api.hub.runner.carry_out([])
    assert [job.record.files for job in jobs(api, service).values()] == [{}]
    assert api.hub.runner.healthy
    fine(await person("POST", f"/api/tasks/{task['id']}/cancel"))


async def test_a_service_that_is_not_there_does_not_get_it(api: Api, service: Service) -> None:
    await service.stop()
    person = await api.user()
    task = await person.create(service.model)
    await eventually(lambda: task["id"] in api.hub.runner.core.dispatcher.left_out)
    await state(person, task, "waiting")
    fine(await person("POST", f"/api/tasks/{task['id']}/cancel"))


async def test_redirects_are_not_followed(api: Api, service: Service) -> None:
    """P16: a service that sends the hub elsewhere has refused."""
    other = Service(api)

    class Elsewhere(Process):
        def post(self) -> None:
            super().post()
            self.clear()
            self.redirect(other.address, status=307)

    service.server.request_callback = service.application(Elsewhere)
    person = await api.user()
    task = await person.create(service.model)
    await service.order()
    await state(person, task, "waiting")
    assert other.orders.empty() and not other.paths
    fine(await person("POST", f"/api/tasks/{task['id']}/cancel"))
    await other.stop()


async def test_slots_are_kept(api: Api) -> None:
    async with present(api, slots=2) as service:
        person = await api.user()
        video = (await person.upload_video())["id"]
        tasks = [await person.create(service.model, video) for _ in range(3)]
        orders = [await service.order() for _ in range(2)]
        assert (await person.get(f"/api/tasks/{tasks[2]['id']}"))["state"] == "waiting"
        fine(await service.call(orders[0], "FAILED", message="no luck"))
        assert (await service.order())["taskId"] == tasks[2]["id"]
