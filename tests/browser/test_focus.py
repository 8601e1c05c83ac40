"""Where the keyboard's focus is after something was done: at what it was done with, never lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Locator, Page, expect

from tests.browser.conftest import MEDIA, HubProcess, Screens
from tests.browser.steps import choose_color, choose_model, order, register, slow, step, upload, worker_process

pytestmark = pytest.mark.browser

VIDEO = MEDIA / "man-webcam.mp4"


async def press(button: Locator) -> None:
    """Press a button by the keyboard."""
    await button.focus()
    await button.press("Enter")


async def with_a_gated_task(screens: Screens) -> Page:
    """The page of somebody new whose first task is for a worker that waits at its gate."""
    page = await screens.open()
    await register(page)
    await upload(page, "video", VIDEO)
    await choose_color(page)
    await choose_model(page, "gated")
    await order(page)
    return page


async def test_it_stays_with_the_task(screens: Screens, hub: HubProcess, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    async with worker_process(hub, "gated-focus", "gated_worker", GATE=str(gate)):
        page = await with_a_gated_task(screens)
        await expect(page.locator(".task")).to_have_attribute("data-state", "processing")
        await page.locator('[data-part="create"]').press("Enter")
        await expect(page.locator(".task")).to_have_count(2)
        await expect(page.locator('[data-part="create"]')).to_be_focused()

        waiting, running = page.locator(".task").nth(0), page.locator(".task").nth(1)
        await expect(waiting).to_have_attribute("data-state", "waiting")
        await press(waiting.locator('[data-part="cancel"]'))
        await expect(waiting).to_have_attribute("data-state", "cancelled")
        await expect(waiting.locator(".name")).to_be_focused()
        await press(waiting.locator('[data-part="retry"]'))
        await expect(waiting).to_have_attribute("data-state", "waiting")
        await expect(waiting.locator(".name")).to_be_focused()

        await running.locator('[data-part="cancel"]').focus()
        gate.unlink()
        await expect(running).to_have_attribute("data-state", "completed")
        await expect(running.locator(".name")).to_be_focused()


async def test_it_stays_with_the_task_that_ends_while_a_question_is_open(
    screens: Screens, hub: HubProcess, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    async with worker_process(hub, "gated-question", "gated_worker", GATE=str(gate)):
        page = await with_a_gated_task(screens)
        task = page.locator(".task")
        await expect(task).to_have_attribute("data-state", "processing")
        await press(task.locator('[data-part="cancel"]'))
        await expect(page.locator("dialog")).to_be_visible()
        gate.unlink()
        await expect(task).to_have_attribute("data-state", "completed")
        await page.keyboard.press("Escape")
        await expect(task.locator(".name")).to_be_focused()


async def test_it_stays_with_the_file(screens: Screens) -> None:
    page = await screens.open()
    await register(page)
    await slow(page, 20_000)
    video = step(page, "video")
    await page.locator("#video-file").focus()
    await page.set_input_files("#video-file", VIDEO)
    await expect(video.locator('[data-part="cancel"]')).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(video.locator(".drop")).to_be_visible()
    await expect(page.locator("#video-file")).to_be_focused()


async def test_a_file_that_comes_while_another_is_on_its_way_is_answered(screens: Screens) -> None:
    page = await screens.open()
    await register(page)
    await slow(page, 20_000)
    video = step(page, "video")
    await page.set_input_files("#video-file", VIDEO)
    await expect(video.locator(".sending")).to_be_visible()
    carried = await page.evaluate_handle(
        """() => {
            const carried = new DataTransfer();
            carried.items.add(new File(["film"], "second.mp4", { type: "video/mp4" }));
            return carried;
        }"""
    )
    await video.locator(".picker").dispatch_event("drop", {"dataTransfer": carried})
    await expect(video.locator(".problem")).to_have_text(
        "“second.mp4” is not taken: another file is still being uploaded."
    )
