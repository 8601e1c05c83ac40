"""The pictures of a running task: there while somebody looks, by whatever way, and made for nobody else."""

from __future__ import annotations

import asyncio
import json

import pytest
from playwright.async_api import APIResponse, Page, expect

from tests.browser.conftest import HubProcess, Screens
from tests.browser.test_live import Blocked, Steady, badge, steady

__all__ = ["steady"]
pytestmark = pytest.mark.browser

KINDS = ("original", "mask", "composite")


class Caller:
    """The user of a page, without the page."""

    def __init__(self, elsewhere: Page, token: str) -> None:
        self.elsewhere = elsewhere
        self.headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    async def get(self, path: str) -> APIResponse:
        return await self.elsewhere.request.get(path, headers=self.headers)

    async def order(self) -> str:
        """A new task like the last one that the page would order; its id."""
        [video] = (await (await self.get("/api/videos")).json())["items"]
        body = json.dumps({"video_id": video["id"], "model": "steady"})
        answer = await self.elsewhere.request.post("/api/tasks", headers=self.headers, data=body)
        return str((await answer.json())["id"])

    async def reaches(self, task: str, percent: float) -> None:
        while (await (await self.get(f"/api/tasks/{task}")).json())["progress"] < percent:
            await asyncio.sleep(0.1)  # another process: there is nothing to wait on but its answer


@pytest.mark.parametrize("way", ["websocket", "stream", "polls"])
async def test_three_pictures_while_somebody_looks_and_nothing_for_nobody(
    screens: Screens, hub: HubProcess, steady: Steady, way: str
) -> None:
    page = await steady.visitor(screens)
    blocked = Blocked(streams=way == "polls")
    blocked.on = way != "websocket"
    await blocked.between(page)
    caller = Caller(await screens.blank(), await page.evaluate("JSON.parse(localStorage['vsh.session']).token"))
    await page.goto("about:blank")

    task = await caller.order()
    steady.go_to(30)
    await caller.reaches(task, 30)
    assert not steady.shown.exists(), "nobody looks"
    assert (await caller.get(f"/api/tasks/{task}/previews/mask")).status == 404

    await screens.arrive(page)
    await expect(badge(page, "live" if way == "websocket" else "polling")).to_be_visible(timeout=60_000)
    row = page.locator(".task")
    space = await row.locator(".previews").bounding_box()
    for kind in KINDS:
        picture = row.locator(f'img[data-part="{kind}Picture"]')
        await expect(picture).to_be_visible(timeout=60_000)
        assert await picture.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [320, 180]
        assert await picture.get_attribute("alt")
        assert ((await picture.get_attribute("src")) or "").startswith("blob:") == (way == "websocket")
    assert await row.locator(".previews").bounding_box() == space, "nothing has moved"
    first = await row.locator('img[data-part="maskPicture"]').get_attribute("src")
    await expect(row.locator('img[data-part="maskPicture"]')).not_to_have_attribute("src", first or "", timeout=30_000)
    assert steady.shown.exists()
    assert (await caller.get(f"/api/tasks/{task}/previews/mask")).status == 200

    await steady.ends(page)
    await expect(row.locator(".previews")).to_be_hidden()
    assert await row.locator(".previews img[src]").count() == 0
    screens.forget_complaints("net::ERR_")
