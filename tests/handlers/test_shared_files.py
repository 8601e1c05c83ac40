"""The folder that is shared with services in the older dialect: what is taken out of it, and what is not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.handlers import seed_service
from tests.handlers.running import Api, eventually, fine, one_loop, small_video
from tests.handlers.seed_service import Service, beside, ordered, state

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


async def test_p19_what_is_no_video_is_no_result(api: Api, service: Service) -> None:
    _, task, order = await ordered(api, service)
    Path(order["foregroundPath"]).write_text("this is no video")
    fine(await service.call(order, "COMPLETED"))
    await eventually(lambda: bool(api.hub.runner.core.tasks[task["id"]].attempts))
    assert api.hub.runner.core.tasks[task["id"]].attempts[-1].code == "result_not_playable"
