"""What the page says of results that are not kept any more, and of the space."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest
from playwright.async_api import expect

from tests.browser.conftest import MEDIA, ROOT, HubProcess, Screens
from tests.browser.steps import choose_color, order, register, step, upload
from tests.browser.test_admin import errand, sign_in

pytestmark = pytest.mark.browser

A_MOMENT_IN_DAYS = "0.000001"
WORK_MS, FIRST_ROUND_MS, RELOAD_MS = 120_000, 90_000, 20_000


async def tidied(hub: HubProcess) -> str:
    """The hub's results are removed, as if each had been kept long enough; what the errand says."""
    folders = {"DATA_DIR": "data", "UPLOAD_VIDEOS_DIR": "videos", "UPLOAD_BACKGROUNDS_DIR": "backgrounds",
               "OUTPUT_DIR": "output"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hub", "media", "gc", cwd=ROOT, stdout=asyncio.subprocess.PIPE, env={
            **os.environ, **{name: str(hub.folder / folder) for name, folder in folders.items()},
            "RESULT_KEEP_DAYS": A_MOMENT_IN_DAYS, "LOG_LEVEL": "error",
        },
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


async def test_a_result_says_until_when_it_is_kept_and_then_that_it_is_gone(screens: Screens, hub: HubProcess) -> None:
    page = await screens.open()
    await register(page)
    await upload(page, "video", MEDIA / "man-webcam.mp4")
    await choose_color(page)
    await order(page)
    task = page.locator(".task")
    await expect(task).to_have_attribute("data-state", "completed", timeout=WORK_MS)
    await expect(task.locator('[data-part="words"]')).to_contain_text("kept until")
    assert "removed result of task" in await tidied(hub)
    await page.reload()
    await expect(task.locator('[data-part="words"]')).to_contain_text("was removed", timeout=RELOAD_MS)
    await expect(task.locator('[data-part="show"]')).to_be_hidden()
    await expect(task.locator('[data-part="download"]')).to_be_hidden()
    await expect(step(page, "video").locator(".chosen .name")).to_have_text("man-webcam.mp4")


async def test_admins_see_how_much_space_is_used_for_what(screens: Screens, hub: HubProcess) -> None:
    await errand(hub, "user", "add", "keeper@example.org", "--admin")
    page = await sign_in(screens, "keeper@example.org", language="zh-CN")
    await page.locator(".admin-link").click()
    space = page.locator(".admin-space")
    await expect(space).to_contain_text("清理", timeout=FIRST_ROUND_MS)
    await expect(page.locator(".admin-head .problem").last).to_be_hidden()
