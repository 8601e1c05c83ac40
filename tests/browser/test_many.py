"""More tasks than one answer of the hub holds: all that are open are on the page, and what was shown stays."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import MEDIA, HubProcess, Screens
from tests.browser.steps import cancel_waiting, register, upload, worker_process

pytestmark = pytest.mark.browser

VIDEO = MEDIA / "man-webcam.mp4"
ORDER = """async ([model, count]) => {
    const { token } = JSON.parse(localStorage["vsh.session"]);
    const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
    const { items: [video] } = await (await fetch("/api/videos", { headers })).json();
    for (let n = 0; n < count; n += 1) {
        const body = JSON.stringify({ video_id: video.id, model });
        const answer = await fetch("/api/tasks", { method: "POST", headers, body });
        if (!answer.ok) throw new Error(await answer.text());
    }
}"""


async def someone(screens: Screens) -> Page:
    page = await screens.open()
    await register(page)
    await upload(page, "video", VIDEO)
    return page


async def test_all_open_tasks_and_what_was_shown(screens: Screens, hub: HubProcess, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    async with worker_process(hub, "gated-many", "gated_worker", GATE=str(gate)):
        page = await someone(screens)
        await page.evaluate(ORDER, ["gated", 1])
        running = page.locator('.task[data-state="processing"]')
        await expect(running).to_have_count(1)
        await page.evaluate(ORDER, ["gated", 55])
        await page.reload()
        await expect(page.locator(".tasks-head")).to_contain_text("56 tasks in progress")
        await expect(page.locator(".task")).to_have_count(56)
        await expect(running).to_have_count(1)
        await expect(page).to_have_title(re.compile(r"^\d+% · "))

        await cancel_waiting(page)
        gate.unlink()
        await expect(page.locator('.task[data-state="completed"]')).to_have_count(1)
    await page.reload()
    await expect(page.locator(".task")).to_have_count(50)
    await page.locator(".tasks > [data-part=more]").click()
    oldest = page.locator(".task").last
    await expect(oldest).to_have_attribute("data-state", "completed")
    await expect(page.locator(".task")).to_have_count(56)
    await oldest.locator('[data-part="show"]').click()
    await expect(oldest.locator(".result")).to_be_visible()
    place = await page.evaluate("scrollY")
    assert place > 1000

    hub.kill()
    await expect(page.locator('.live[data-state="waiting"]')).to_be_visible()
    hub.start()
    await expect(page.locator('.live[data-state="live"]')).to_be_visible(timeout=30_000)
    await expect(page.locator(".task")).to_have_count(56)
    await expect(oldest.locator(".result")).to_be_visible()
    assert abs(await page.evaluate("scrollY") - place) < 100
    screens.forget_complaints("net::ERR_")
