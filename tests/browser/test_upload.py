"""Uploading on the page over a bad line: it goes on by itself, and after a reload where the file is chosen again."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import Page, Request, expect

from tests.browser.conftest import HubProcess, Screens
from tests.browser.steps import register, slow, step
from tests.resuming.client import padded

SIZE = 8 * 1024 * 1024
SLOW = 1_500_000  # bytes a second: slow enough to be caught in the middle


def listen(page: Page) -> list[str]:
    """What the page sends to the hub about uploads: the method, for PATCH with its offset."""
    said: list[str] = []

    def heard(request: Request) -> None:
        if "/api/uploads" in request.url and not request.url.endswith("/limits"):
            said.append(f"{request.method} {request.headers.get('upload-offset', '')}".strip())

    page.on("request", heard)
    return said


async def halfway(page: Page) -> None:
    """Wait until more than a third is out."""
    await page.wait_for_function("() => document.querySelector('.sending progress')?.value > 35")


def offsets(said: list[str]) -> list[int]:
    return [int(line.split()[1]) for line in said if line.startswith("PATCH")]


async def test_a_page_that_is_reloaded_goes_on_with_the_file(screens: Screens, tmp_path: Path) -> None:
    """A reload in the middle of an upload: choosing the same file again sends the rest alone."""
    video = tmp_path / "long.mp4"
    video.write_bytes(padded(SIZE, 41))
    page = await screens.open()
    await register(page)
    await expect(step(page, "video").locator('[data-part="limits"]')).to_contain_text("Up to 104.9 MB a file")
    await slow(page, SLOW)
    said = listen(page)
    await page.set_input_files("#video-file", video)
    await halfway(page)
    page.on("dialog", lambda dialog: dialog.accept())  # whether the page may be left while it uploads
    await page.reload()
    unfinished = step(page, "video").locator('[data-part="unfinished"]')
    await expect(unfinished).to_contain_text("“long.mp4” is not all here yet.")
    await slow(page, -1)
    await page.set_input_files("#video-file", video)
    await expect(step(page, "video").locator(".chosen .name")).to_have_text(video.name)
    await expect(unfinished).to_be_hidden()
    assert [line.split()[0] for line in said if line.startswith("POST")] == ["POST"]
    first, second = offsets(said)
    assert first == 0 and SIZE // 10 < second < SIZE


async def test_a_hub_that_dies_in_the_middle_is_waited_for(screens: Screens, hub: HubProcess, tmp_path: Path) -> None:
    """P1 on the page: kill -9 in mid-upload, and it goes on by itself from where it was."""
    video = tmp_path / "long.mp4"
    video.write_bytes(padded(SIZE, 42))
    page = await screens.open()
    await register(page)
    await slow(page, SLOW)
    said = listen(page)
    await page.set_input_files("#video-file", video)
    await halfway(page)
    hub.kill()
    await expect(step(page, "video").locator('[data-part="sendingState"]')).to_contain_text("goes on by itself")
    hub.start()
    await slow(page, -1)
    await expect(step(page, "video").locator(".chosen .name")).to_have_text(video.name, timeout=60_000)
    assert [line.split()[0] for line in said if line.startswith("POST")] == ["POST"]
    assert offsets(said)[0] == 0 and min(offsets(said)[1:]) > SIZE // 10
    for complaint in ("net::ERR", "WebSocket"):
        screens.forget_complaints(complaint)


async def test_a_file_that_is_too_large_is_refused_before_it_is_sent(screens: Screens, tmp_path: Path) -> None:
    page = await screens.open()
    await register(page)
    await expect(step(page, "video").locator('[data-part="limits"]')).to_contain_text("left")
    said = listen(page)
    video = tmp_path / "huge.mp4"
    with video.open("wb") as file:
        file.truncate(101 * 1024 * 1024)
    await page.set_input_files("#video-file", video)
    await expect(step(page, "video").locator(".problem")).to_contain_text("too large: a file may have 104.9 MB")
    assert said == []
