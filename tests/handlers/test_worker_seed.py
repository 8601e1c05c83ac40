"""The older dialect: services that speak nothing else register, take tasks and hand over what they made."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from handlers import worker_seed
from handlers.shared_files import SharedFiles
from hub.__main__ import Hub
from hub.effects import Delete, Save
from hub.errors import DiskFull
from hub.interface import Interface, hash_token, new_token
from hub.media import Media
from hub.seed import SeedJob
from tests.handlers import seed_service
from tests.handlers.running import Api, Place, eventually, fine, metadata, one_loop, running_hub, small_video
from tests.handlers.seed_service import (
    WORD, Process, Service, beside, fine_bytes, free_port, jobs, ordered, present, refused_too, settings, state,
)
from tests.odd_media import WEBCAM, silent, write_clip

ROOT = Path(__file__).parents[2]
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
    assert fine_bytes(await person("GET", done["video"]["content_url"])) == small_video()  # its name was a link


async def test_a_result_in_the_place_that_was_offered(api: Api, service: Service) -> None:
    person, task, order = await ordered(api, service)
    shutil.copy(order["videoPath"], order["foregroundPath"])
    fine(await service.call(order, "COMPLETED"))
    await state(person, task, "completed")


UPLOADS: list[tuple[str, Callable[[bytes], tuple[bytes, dict[str, str]]]]] = [
    ("raw", lambda data: (data, {"Content-Type": "video/mp4"})),
    ("form", lambda data: (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="r.mp4"\r\n\r\n' + data + b"\r\n--x--\r\n",
        {"Content-Type": "multipart/form-data; boundary=x"},
    )),
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
        assert service.name not in api.hub.runner.core.roster.failures
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
    assert (left.attempt, left.attempts) == (0, ())
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


# --- presence -------------------------------------------------------------------------------------------------


async def test_an_unknown_service_waits_for_an_admin(api: Api) -> None:
    service = Service(api)
    assert "admin" in fine(await service.heartbeat(interfaceAddress=service.address.upper() + "/"))["message"]
    record = await api.hub.rooms.store.find(Interface, address=service.address)
    assert record is not None and record.pending and record.dialect == "seed"
    assert re.fullmatch(r"127-0-0-1-\d+", record.id)
    fine(await service.heartbeat())
    assert await api.hub.rooms.store.count(Interface, address=service.address) == 1
    assert api.hub.runner.core.session_of(record.id) is None
    service.name = record.id
    await service.register(pending=False, version=2)
    fine(await service.heartbeat())
    assert api.hub.runner.core.session_of(record.id) is not None
    await service.stop()


async def test_services_are_let_in_by_themselves_where_the_settings_say_so(place: Place) -> None:
    changes = settings(AUTO_REGISTER_INTERFACES="true", INTERFACE_MODELS="matting:Fine matting,other")
    async with running_hub(place, **changes) as hub:
        api = Api(hub, place.folder)
        service = Service(api)
        service.model = "matting"
        fine(await service.heartbeat())
        person = await api.user()
        assert {model["name"]: model["alias"] for model in (await person.get("/api/models"))["items"]} == {
            "matting": "Fine matting", "other": "",
        }
        _, _, order = await ordered(api, service)
        assert order["modelAlias"] == "Fine matting"
        await service.stop()
        api.close()


async def test_a_silent_service_is_offline_and_its_task_is_free(place: Place) -> None:
    """P5: a service that is silent for HEARTBEAT_TIMEOUT loses its task, and until then it keeps it."""
    changes = settings(HEARTBEAT_TIMEOUT="0.05", LEASE_SECONDS="1", HEARTBEAT_SECONDS="0.9")
    async with running_hub(place, **changes) as hub:
        api = Api(hub, place.folder)
        service = Service(api)
        await service.register()
        fine(await service.heartbeat())
        person, task, order = await ordered(api, service)
        began = hub.rooms.clock.now()
        async with asyncio.timeout(20):
            while hub.runner.core.session_of(service.name) is not None:
                assert task["id"] in hub.runner.core.tasks
                await asyncio.sleep(0.05)
        assert hub.rooms.clock.now() - began > 2.5  # the lease alone would have ended long before
        assert (await state(person, task, "waiting"))["blocked_by"] == "no_worker_for_model"
        refused_too(await service.call(order, "COMPLETED"), 409, "lease_lost")
        fine(await service.heartbeat())
        assert (await service.order())["taskId"] == task["id"]
        await service.stop()
        api.close()


@pytest.mark.parametrize("reported", [False, True], ids=["reported after it", "reported before it"])
async def test_p15_a_hub_that_starts_anew_knows_what_was_in_hand(place: Place, reported: bool) -> None:
    changes = settings()
    async with running_hub(place, **changes) as hub:
        api = Api(hub, place.folder)
        service = Service(api)
        service.reply = lambda order: (200, {"status": "accepted", "compositeVideoPath": beside(order, "made.mp4")})
        await service.register()
        fine(await service.heartbeat())
        person, task, order = await ordered(api, service)
        shutil.copy(order["videoPath"], beside(order, "made.mp4"))
        if reported:  # all that is left of a report whose files were not collected any more
            record = await hub.rooms.store.find(SeedJob, worker=service.name)
            assert record is not None
            await hub.rooms.store.commit([Save(replace(record, done=True, version=record.version + 1), record.version)])
        await hub.stop()
        again = Hub(hub.settings, hub.store)
        await again.start()
        api.hub = again
        if not reported:
            fine(await service.call(order, "COMPLETED"))
        await state(person, task, "completed")
        await again.stop()
        await service.stop()
        api.close()


# --- the example ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", ["yes", "no"])
@pytest.mark.media
async def test_the_example_service_completes_real_tasks(api: Api, shared: str) -> None:
    example = ROOT / "docs" / "examples" / "seed_service.py"
    assert len(example.read_text().splitlines()) <= 80
    address, model = f"http://127.0.0.1:{free_port()}", "mediapipe-selfie"
    record = Interface(
        f"example-{shared}", hash_token(new_token()), 0.0, dialect="seed", address=address, models=(model,),
        path="/api/video/segment",
    )
    await api.hub.rooms.store.commit([Save(record, 0)])
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(example), address, cwd=ROOT, stderr=asyncio.subprocess.DEVNULL,
        env={
            **os.environ, "PYTHONPATH": ".", "HUB_URL": api.hub.url, "INTERFACE_IDENTIFICATION": WORD, "SHARED": shared,
        },
    )
    try:
        await eventually(lambda: model in api.hub.runner.core.models, 30)
        person = await api.user()
        video = fine(await person.upload(WEBCAM.read_bytes()), 201)
        background = await person.upload_background()
        task = await person.create(model, video["id"], background_id=background["id"])
        async with asyncio.timeout(100):
            while (done := await person.get(f"/api/tasks/{task['id']}"))["state"] in ("waiting", "processing"):
                await asyncio.sleep(0.1)
        assert (done["state"], done["result"]["video"]["frames"]) == ("completed", video["frames"]), done
    finally:
        process.terminate()
        await process.wait()
        await api.hub.rooms.store.commit([Delete(Interface, record.id)])
        await eventually(lambda: api.hub.runner.core.session_of(record.id) is None)
