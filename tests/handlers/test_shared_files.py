"""The folder that is shared with services in the older dialect: what is taken out of it, and what is not."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handlers import shared_files
from handlers.shared_files import SharedFiles, copy, lay_out
from hub.ids import new_id
from tests.handlers import seed_service
from tests.handlers.running import Api, Place, eventually, fine, one_loop, running_hub, small_video
from tests.handlers.seed_service import Service, beside, fine_bytes, ordered, settings, state

hub, service = seed_service.hub, seed_service.service
pytestmark = one_loop


async def not_taken(api: Api, service: Service, path: Callable[[dict[str, Any]], str]) -> str:
    """What becomes of a task whose service names such a result."""
    service.reply = lambda order: (200, {"status": "accepted", "compositeVideoPath": path(order)})
    person, task, order = await ordered(api, service)
    fine(await service.call(order, "COMPLETED"))
    await eventually(lambda: bool(api.hub.runner.core.tasks[task["id"]].attempts))
    attempt = api.hub.runner.core.tasks[task["id"]].attempts[-1]
    fine(await person("POST", f"/api/tasks/{task['id']}/cancel"))
    return f"{attempt.code}: {attempt.detail}"


async def test_p16_results_are_taken_from_inside_the_shared_folder_only(
    api: Api, service: Service, tmp_path: Path,
) -> None:
    outside = tmp_path / "outside.mp4"
    outside.write_bytes(small_video())
    root = Path(api.hub.settings.output_dir)
    down = "/.." * (len(root.parts) + 3)
    assert "not in the shared folder" in await not_taken(api, service, lambda order: str(outside))
    assert "not in the shared folder" in await not_taken(api, service, lambda order: f"{root}/jobs{down}{outside}")
    assert "not an absolute path" in await not_taken(api, service, lambda order: "jobs/result.mp4")
    assert "not there" in await not_taken(api, service, lambda order: str(root / "nothing.mp4"))
    assert "not there" in await not_taken(api, service, lambda order: str(root) + "/" + "a" * 3000)
    assert "no regular file" in await not_taken(api, service, lambda order: str(root))


async def test_p16_no_link_and_no_pipe_leads_out(api: Api, service: Service, tmp_path: Path) -> None:
    outside = tmp_path / "outside.mp4"
    outside.write_bytes(small_video())

    def linked(order: dict[str, Any]) -> str:
        Path(order["foregroundPath"]).symlink_to(outside)
        return str(order["foregroundPath"])

    def through_a_folder(order: dict[str, Any]) -> str:
        Path(beside(order, "folder")).symlink_to(tmp_path)
        return beside(order, "folder/outside.mp4")

    def pipe(order: dict[str, Any]) -> str:
        os.mkfifo(order["foregroundPath"])
        return str(order["foregroundPath"])

    assert "not in the shared folder" in await not_taken(api, service, linked)
    assert "not in the shared folder" in await not_taken(api, service, through_a_folder)
    assert "no regular file" in await not_taken(api, service, pipe)


async def test_p16_another_users_result_is_not_a_result(api: Api, service: Service) -> None:
    """The hub's own files lie in the shared folder by default: no service can have one of them taken as its own."""
    person, task, order = await ordered(api, service)
    shutil.copy(order["videoPath"], order["foregroundPath"])
    fine(await service.call(order, "COMPLETED"))
    sha256 = (await state(person, task, "completed"))["result"]["video"]["sha256"]
    [kept] = [path for path in Path(api.hub.settings.output_dir).rglob(sha256)]
    assert "not in the shared folder" in await not_taken(api, service, lambda order: str(kept))


async def test_a_link_within_the_shared_folder_is_fine(api: Api, service: Service) -> None:
    person, task, order = await ordered(api, service)
    shutil.copy(order["videoPath"], beside(order, "real.mp4"))
    Path(order["foregroundPath"]).symlink_to("real.mp4")
    fine(await service.call(order, "COMPLETED"))
    await state(person, task, "completed")


async def test_p16_what_a_service_does_to_its_inputs_changes_nothing_of_the_users(
    api: Api, service: Service,
) -> None:
    person, task, order = await ordered(api, service)
    with Path(order["videoPath"]).open("r+b") as file:
        file.write(bytes(100))
    video = (await person.get(f"/api/tasks/{task['id']}"))["video"]
    assert fine_bytes(await person("GET", video["content_url"])) == small_video()


async def test_p16_inputs_are_for_the_hubs_own_user_unless_the_settings_say_more(api: Api, service: Service) -> None:
    _, _, order = await ordered(api, service)
    assert modes(order)["video.mp4"] & 0o007 == 0


async def test_jobs_are_as_open_as_the_settings_say(place: Place) -> None:
    umask = os.umask(0o077)
    try:
        async with running_hub(place, **settings(SHARED_DIR="open", SHARED_DIR_MODE="2775")) as hub:
            api = Api(hub, place.folder)
            service = Service(api)
            await service.register()
            fine(await service.heartbeat())
            _, _, order = await ordered(api, service)
            lease = Path(order["foregroundPath"]).parent.name
            assert modes(order) == {"jobs": 0o2755, lease: 0o2775, "video.mp4": 0o664}
            await service.stop()
            api.close()
    finally:
        os.umask(umask)


def modes(order: dict[str, Any]) -> dict[str, int]:
    """The modes of a job's video and of the folders around it, by name."""
    video = Path(order["videoPath"])
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in (video, video.parent, video.parent.parent)}


@pytest.mark.parametrize("broken", [None, errno.EXDEV, errno.ENOSYS])
async def test_a_copy_has_every_byte_whatever_the_file_system_can_do(
    broken: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    def copy_file_range(source: int, target: int, count: int) -> int:
        raise OSError(broken, "this file system cannot")

    if broken:
        monkeypatch.setattr(os, "copy_file_range", copy_file_range)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(300_000))
    copy(source, target)
    assert target.read_bytes() == source.read_bytes()


async def test_only_jobs_that_are_over_are_cleared_away(api: Api, service: Service) -> None:
    _, _, order = await ordered(api, service)
    jobs = Path(order["foregroundPath"]).parent.parent
    over, foreign = jobs / new_id(), jobs / "notes"
    over.mkdir()
    foreign.mkdir()
    await SharedFiles(api.hub.rooms).clear(api.hub.runner.core.leases)
    assert Path(order["videoPath"]).exists() and foreign.exists() and not over.exists()


async def test_a_task_that_is_cancelled_while_its_inputs_are_copied_is_not_handed_over(
    api: Api, service: Service, monkeypatch: pytest.MonkeyPatch,
) -> None:
    copying, go_on, places = threading.Event(), threading.Event(), list[Path]()

    def slow(folder: Path, pairs: list[tuple[Path, Path]], mode: int | None) -> None:
        lay_out(folder, pairs, mode)
        places.append(folder)
        copying.set()
        go_on.wait(10)

    monkeypatch.setattr(shared_files, "lay_out", slow)
    person = await api.user()
    task = await person.create(service.model)
    assert await asyncio.to_thread(copying.wait, 10)
    fine(await person("POST", f"/api/tasks/{task['id']}/cancel"))
    [folder] = places
    await eventually(lambda: not folder.exists())
    folder.mkdir()  # as if it had just been begun
    go_on.set()
    await eventually(lambda: not folder.exists())
    assert service.orders.empty()


async def test_p19_what_is_no_video_is_no_result(api: Api, service: Service) -> None:
    _, task, order = await ordered(api, service)
    Path(order["foregroundPath"]).write_text("this is no video")
    fine(await service.call(order, "COMPLETED"))
    await eventually(lambda: bool(api.hub.runner.core.tasks[task["id"]].attempts))
    assert api.hub.runner.core.tasks[task["id"]].attempts[-1].code == "result_not_playable"
