"""The older dialect over time: services come, fall silent, outlive the hub; and the example does all of it."""

from __future__ import annotations

import asyncio
import os
import re
import runpy
import shutil
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from handlers.worker_seed import QUIET
from hub.__main__ import Hub
from hub.effects import Delete, Save
from hub.interface import Interface, hash_token, new_token
from hub.seed import SeedJob
from tests.handlers import seed_service
from tests.handlers.running import Api, Place, eventually, fine, one_loop, running_hub
from tests.handlers.seed_service import WORD, Service, beside, free_port, jobs, ordered, refused_too, settings, state
from tests.odd_media import WEBCAM

ROOT = Path(__file__).parents[2]
hub, service = seed_service.hub, seed_service.service
pytestmark = one_loop


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


async def test_an_unknown_service_that_names_the_place_of_its_orders_is_called_there(api: Api) -> None:
    service = Service(api)
    for address in (f"{service.address}/process", service.address):
        fine(await service.heartbeat(interfaceAddress=address))
    record = await api.hub.rooms.store.find(Interface, address=service.address)
    assert record is not None and record.path == "/process"
    assert await api.hub.rooms.store.find(Interface, address=f"{service.address}/process") is None
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


async def test_a_service_that_says_no_numbers_keeps_its_task_longer_than_others(place: Place) -> None:
    """What other workers lose a task for, no progress for STALL_SECONDS, is how some of these services work."""
    async with running_hub(place, **settings(STALL_SECONDS="2.5")) as hub:
        api = Api(hub, place.folder)
        service = Service(api)
        await service.register()
        fine(await service.heartbeat())
        person, task, order = await ordered(api, service)
        began = hub.rooms.clock.now()
        while hub.rooms.clock.now() - began < 4:
            assert hub.runner.core.tasks[task["id"]].lease is not None
            fine(await service.call(order, "PROCESSING", message="still at it"))
            await asyncio.sleep(0.1)
        shutil.copy(order["videoPath"], order["foregroundPath"])
        fine(await service.call(order, "COMPLETED"))
        assert (await state(person, task, "completed"))["attempt"] == 1
        await service.stop()
        api.close()


@pytest.mark.parametrize("talks", [True, False], ids=["of one that talks", "of one that does not"])
async def test_a_task_of_which_a_living_service_says_nothing_is_tried_again(
    api: Api, service: Service, talks: bool
) -> None:
    """Who has said before how far it is has as long as other workers; who says nothing before the end has longer."""
    person, task, order = await ordered(api, service)
    if talks:
        fine(await service.call(order, "PENDING"))
    await api.hub.runner.decide([])
    record = await api.hub.rooms.store.get(Interface, service.name)
    assert record is not None and record.talks == talks, "which outlives this hub"
    [job] = jobs(api, service).values()
    job.reported_at -= (1 if talks else QUIET) * api.hub.settings.stall_seconds - 60
    fine(await service.heartbeat())
    assert api.hub.runner.core.tasks[task["id"]].lease is not None
    job.reported_at -= 60
    fine(await service.heartbeat())
    await state(person, task, "waiting")
    assert api.hub.runner.core.tasks[task["id"]].attempts[-1].code == "no_report"
    fine(await person("POST", f"/api/tasks/{task['id']}/cancel"))


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


@pytest.mark.media
async def test_the_example_service_says_what_it_did_to_a_hub_that_was_away(
    place: Place, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("INTERFACE_IDENTIFICATION", WORD)
    example = runpy.run_path(str(ROOT / "docs" / "examples" / "seed_service.py"))
    waits = threading.Event()

    def pause(seconds: float) -> None:
        waits.set()
        threading.Event().wait(0.05)

    async with running_hub(place, **settings()) as hub:
        api = Api(hub, place.folder)
        service = Service(api)
        service.model = "mediapipe-selfie"
        await service.register()
        fine(await service.heartbeat())
        person, task, order = await ordered(api, service)
        await hub.stop()
        with monkeypatch.context() as patched:
            patched.setitem(example["work"].__globals__, "time", SimpleNamespace(sleep=pause))
            working = asyncio.create_task(asyncio.to_thread(example["work"], order))
            async with asyncio.timeout(60):
                assert await asyncio.to_thread(waits.wait, 60)
                again = api.hub = Hub(hub.settings, hub.store)
                await again.start()
                await working
        await state(person, task, "completed")
        await again.stop()
        await service.stop()
        api.close()


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
