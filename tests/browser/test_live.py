"""The bar goes on by itself and never jumps back, whatever happens between the page and the hub (P9, P10)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, Route, WebSocketRoute, expect

from tests.browser.conftest import MEDIA, HubProcess, Screens
from tests.browser.dark_proxy import dark_proxy
from tests.browser.steps import choose_color, choose_model, order, register, upload, worker_process

pytestmark = pytest.mark.browser

WAIT_MS = 60_000
RECORD = """
const { get, set } = Object.getOwnPropertyDescriptor(HTMLProgressElement.prototype, "value");
Object.defineProperty(HTMLProgressElement.prototype, "value", {
    get,
    set(value) {
        set.call(this, value);
        if (this.closest(".task")?.dataset.state === "processing") barMoved(value);
    },
});
"""
numbers = itertools.count(1)


class Steady:
    """A worker that stands still at a percent of its own work that the test says, and the bar that shows it."""

    def __init__(self, folder: Path) -> None:
        self.target, self.shown = folder / "target", folder / "shown"
        self.values: list[float] = []
        self.go_to(0)

    def go_to(self, percent: float) -> None:
        self.target.write_text(str(percent))

    def moved(self, _: Any, value: float) -> None:
        self.values.append(value)

    async def visitor(self, screens: Screens, url: str = "") -> Page:
        """A page whose bar is recorded from the first moment, also across reloads."""
        page = await screens.blank(url=url)
        await page.expose_binding("barMoved", self.moved)
        await page.add_init_script(RECORD)
        await screens.arrive(page)
        await register(page)
        await upload(page, "video", MEDIA / "man-webcam.mp4")
        await choose_color(page)
        await choose_model(page, "steady")
        return page

    async def shows(self, page: Page, percent: float) -> None:
        """Wait until the page shows what the worker has reached; fetching counts for the first five percent."""
        least = 5 + 0.9 * percent
        bar = await page.locator(".task progress").element_handle()
        await page.wait_for_function("([bar, least]) => bar.value >= least - 0.01", arg=[bar, least], timeout=WAIT_MS)

    async def ends(self, page: Page) -> None:
        """Let it end; the bar has never gone back, and it was one attempt."""
        self.go_to(100)
        await expect(page.locator(".task")).to_have_attribute("data-state", "completed", timeout=WAIT_MS)
        await expect(page.locator(".task")).not_to_contain_text("Attempt")
        assert len(set(self.values)) > 5
        assert self.values == sorted(self.values), [
            pair for pair in itertools.pairwise(self.values) if pair[0] > pair[1]
        ]


@pytest.fixture
async def steady(hub: HubProcess, tmp_path: Path) -> AsyncIterator[Steady]:
    steady = Steady(tmp_path)
    name = f"steady-{next(numbers)}"
    async with worker_process(
        hub, name, "steady_worker", TARGET=str(steady.target), SHOWN=str(steady.shown),
    ):
        yield steady
        steady.go_to(100)


def badge(page: Page, *states: str) -> Any:
    return page.locator(", ".join(f'.live[data-state="{state}"]' for state in states))


async def test_p10_a_reload_at_forty_percent(screens: Screens, steady: Steady) -> None:
    page = await steady.visitor(screens)
    await order(page)
    steady.go_to(40)
    await steady.shows(page, 40)
    await page.reload()
    await steady.shows(page, 40)
    steady.go_to(60)
    await steady.shows(page, 60)
    await steady.ends(page)


async def test_p10_the_network_is_off_for_a_while(screens: Screens, hub: HubProcess, steady: Steady) -> None:
    async with dark_proxy(hub.port) as network:
        page = await steady.visitor(screens, network.url)
        await order(page)
        steady.go_to(30)
        await steady.shows(page, 30)
        token = await page.evaluate("JSON.parse(localStorage['vsh.session']).token")
        elsewhere = await screens.blank()
        network.light.clear()
        await page.context.set_offline(True)
        await expect(badge(page, "waiting")).to_be_visible(timeout=WAIT_MS)
        steady.go_to(70)
        while True:
            answer = await elsewhere.request.get("/api/tasks", headers={"Authorization": f"Bearer {token}"})
            if (await answer.json())["items"][0]["progress"] >= 5 + 0.9 * 70 - 0.01:
                break
            await asyncio.sleep(0.2)  # another process: there is nothing to wait on but its answer
        assert max(steady.values) < 5 + 0.9 * 31
        network.light.set()
        await page.context.set_offline(False)
        await expect(badge(page, "live", "polling")).to_be_visible(timeout=WAIT_MS)
        await steady.shows(page, 70)
        await steady.ends(page)
        screens.forget_complaints("net::ERR_")


async def test_p10_the_hub_is_killed_and_started_again(screens: Screens, hub: HubProcess, steady: Steady) -> None:
    page = await steady.visitor(screens)
    await order(page)
    steady.go_to(40)
    await steady.shows(page, 40)
    hub.kill()
    await expect(badge(page, "waiting")).to_be_visible()
    steady.go_to(60)
    hub.start()
    await expect(badge(page, "live")).to_be_visible(timeout=WAIT_MS)
    await steady.shows(page, 60)
    await steady.ends(page)
    screens.forget_complaints("net::ERR_")


class Blocked:
    """A network that lets no websocket through, and perhaps no stream, until it is opened."""

    def __init__(self, streams: bool) -> None:
        self.streams = streams
        self.on = False

    async def between(self, page: Page) -> None:
        await page.context.route_web_socket("**/api/live", self.socket)
        await page.context.route("**/api/live/stream?*", self.stream)

    def socket(self, socket: WebSocketRoute) -> Any:
        return socket.close() if self.on else socket.connect_to_server()

    async def stream(self, route: Route) -> None:
        await (route.abort() if self.on and self.streams else route.continue_())


@pytest.mark.parametrize("streams", [False, True], ids=["websockets", "websockets and streams"])
async def test_p10_what_is_blocked_is_gone_around_and_taken_again(
    screens: Screens, steady: Steady, streams: bool
) -> None:
    blocked = Blocked(streams)
    page = await steady.visitor(screens)
    await blocked.between(page)
    blocked.on = True
    await screens.arrive(page)
    await expect(badge(page, "polling")).to_be_visible(timeout=WAIT_MS)
    await order(page)
    steady.go_to(40)
    await steady.shows(page, 40)
    blocked.on = False
    await expect(badge(page, "live")).to_be_visible(timeout=WAIT_MS)
    steady.go_to(60)
    await steady.shows(page, 60)
    await steady.ends(page)
    screens.forget_complaints("net::ERR_")
