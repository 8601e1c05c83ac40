"""What the page says of tasks that wait: their place, when they will be done, and why they do not run."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import MEDIA, HubProcess, Screens
from tests.browser.steps import choose_color, choose_model, errand, order, register, upload, worker_process

pytestmark = pytest.mark.browser


async def someone(screens: Screens) -> Page:
    """A new user whose form is filled for the model "gated"."""
    page = await screens.open()
    await register(page)
    await upload(page, "video", MEDIA / "man-webcam.mp4")
    await choose_color(page)
    await choose_model(page, "gated")
    return page


async def test_p18_the_page_tells_place_time_and_reason(screens: Screens, hub: HubProcess, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with worker_process(hub, "gated", "gated_worker", GATE=str(gate)):
        gate.touch()
        ann = await someone(screens)
        await order(ann)
        bob = await someone(screens)  # this takes a while, and so does the task meanwhile
        gate.unlink()
        await expect(ann.locator(".task")).to_have_attribute("data-state", "completed")

        gate.touch()
        for page, tasks in ((ann, 2), (bob, 1), (ann, 3)):
            await order(page)
            await expect(page.locator(".task")).to_have_count(tasks)
        first, last = (ann.locator(".task").nth(at) for at in (1, 0))
        await expect(first).to_have_attribute("data-state", "processing")
        await expect(bob.locator(".task")).to_contain_text("Next in line")
        await expect(last).to_contain_text("Number 2 in line")
        await expect(last).to_contain_text("done in")

        await errand(hub, "interface", "pause", "gated")
        await expect(last).to_contain_text("The workers for this model are paused.")
        await ann.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        gated = ann.locator('.models label:has([value="gated"])')
        await expect(gated).to_contain_text("Its workers are paused; the task will wait")
        await errand(hub, "interface", "resume", "gated")
        await expect(last).to_contain_text("Number 2 in line")

        gate.unlink()
        await expect(bob.locator(".task")).to_have_attribute("data-state", "completed")
        await expect(last).to_have_attribute("data-state", "completed")
