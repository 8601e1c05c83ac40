"""What several browser tests do on the page."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from typing import Any

from playwright.async_api import Locator, Page, expect

from tests.browser.conftest import ROOT, HubProcess, Screens

PASSWORD = "a sentence that works well"
numbers = itertools.count(1)


async def register(page: Page) -> str:
    """Create an account and arrive at the workspace; the e-mail address."""
    email = f"user{next(numbers)}@example.org"
    await page.locator('.sign [data-part="other"]').click()
    await page.fill("#email", email)
    await page.fill("#password", PASSWORD)
    await page.locator('.sign [data-part="submit"]').click()
    await expect(page.locator('.live[data-state="live"]')).to_be_visible()
    return email


async def sign_in(screens: Screens, email: str, **look: Any) -> Page:
    """Somebody who has an account, at the workspace."""
    page = await screens.open(**look)
    await page.fill("#email", email)
    await page.fill("#password", PASSWORD)
    await page.locator('.sign [data-part="submit"]').click()
    await expect(page.locator('.live[data-state="live"]')).to_be_visible()
    return page


def step(page: Page, noun: str) -> Locator:
    """The part of the form for "video", "background" or "model"."""
    return page.locator(f'[aria-labelledby="{noun}-title"]')


async def upload(page: Page, noun: str, path: Path) -> None:
    """Choose a file and wait until the hub has accepted it."""
    await page.set_input_files(f"#{noun}-file", path)
    await expect(step(page, noun).locator(".chosen .name")).to_have_text(path.name)


async def choose_color(page: Page) -> None:
    """A plain colour instead of a picture."""
    await page.locator('[value="color"] + span').click()


async def order(page: Page) -> None:
    """Start the task that the form describes."""
    await page.locator('[data-part="create"]').click()
    await expect(page.locator(".task").first).to_be_visible()


async def errand(hub: HubProcess, *words: str) -> str:
    """The hub's command line, beside the running hub."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hub", *words, cwd=ROOT, stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "DATA_DIR": str(hub.folder / "data"), "HUB_PASSWORD": PASSWORD, "LOG_LEVEL": "error"},
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


@asynccontextmanager
async def worker_process(hub: HubProcess, name: str, module: str, **environment: str) -> AsyncIterator[None]:
    """A worker of tests/browser, registered under `name`, in a process of its own."""
    added = await errand(hub, "interface", "add", name)
    [token] = re.findall(r"[\w-]{43}", added)
    process = subprocess.Popen(
        [sys.executable, "-m", f"tests.browser.{module}"], cwd=ROOT,
        env={**os.environ, "HUB_URL": hub.url, "WORKER_NAME": name, "WORKER_TOKEN": token, **environment},
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


async def slow(page: Page, bytes_per_second: int) -> None:
    """Let this page send no faster than that; -1 is as fast as it can."""
    wire = await page.context.new_cdp_session(page)
    await wire.send("Network.enable")
    await wire.send("Network.emulateNetworkConditions", {
        "offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_second,
    })


async def choose_model(page: Page, name: str) -> None:
    await page.locator(f'.models label:has([value="{name}"])').click()


async def cancel_waiting(page: Page) -> None:
    """Whoever is signed in here cancels all their waiting tasks, on the page or not."""
    await page.evaluate("""async () => {
        const headers = { Authorization: `Bearer ${JSON.parse(localStorage["vsh.session"]).token}` };
        const { items } = await (await fetch("/api/tasks?state=waiting&limit=200", { headers })).json();
        for (const { id } of items) await fetch(`/api/tasks/${id}/cancel`, { method: "POST", headers });
    }""")
