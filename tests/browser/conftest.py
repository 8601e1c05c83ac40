"""A hub in a process of its own, and a Chromium that is told how to look at it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright

from tests.ports import free_port

ROOT = Path(__file__).parents[2]
MEDIA = ROOT / "tests" / "media"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
START_S = 60.0
ARRIVE_S = 15.0
NETWORK_CHANGED = "net::ERR_NETWORK_CHANGED"  # what Chromium says when interfaces come and go on this machine


class HubProcess:
    """`python -m hub run --local-worker` on a free port with a folder of its own; can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.folder = folder
        self.log = folder / "hub.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, and return when the hub and its worker are ready."""
        environment = {
            **os.environ,
            "PORT": str(self.port), "DATA_DIR": str(self.folder / "data"),
            "UPLOAD_VIDEOS_DIR": str(self.folder / "videos"),
            "UPLOAD_BACKGROUNDS_DIR": str(self.folder / "backgrounds"), "OUTPUT_DIR": str(self.folder / "output"),
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "hub", "run", "--local-worker"],
                cwd=ROOT, env=environment, stdout=log, stderr=log,
            )
        end = time.monotonic() + START_S
        while not self.ready():
            assert self.process.poll() is None and time.monotonic() < end, self.log.read_text()[-3000:]
            time.sleep(0.1)  # another process: there is nothing to wait on but its answer

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=2) as answer:
                return b'"workers":0' not in answer.read()
        except (urllib.error.URLError, OSError):
            return False

    def kill(self) -> None:
        """End it without a warning, as a crash would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def kill_child(self, name: str) -> None:
        """End the child process whose command line names `name`, as a crash would."""
        assert self.process is not None
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(stat.read_text().rpartition(")")[2].split()[1])
                command = (stat.parent / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
            except OSError:
                continue  # it has ended while we looked
            if parent == self.process.pid and name in command:
                os.kill(int(stat.parent.name), signal.SIGKILL)
                return
        raise AssertionError(f"the hub has no child {name!r}")

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(20)


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    process = HubProcess(tmp_path_factory.mktemp("hub"))
    process.start()
    try:
        yield process
    finally:
        process.stop()


class Screens:
    """Pages of one browser. What a page complains about is collected, and fails the test that did not expect it."""

    def __init__(self, browser: Browser, hub: HubProcess) -> None:
        self.browser = browser
        self.hub = hub
        self.contexts: list[BrowserContext] = []
        self.complaints: list[str] = []
        self.tolerated = [NETWORK_CHANGED]

    async def open(self, language: str = "en-US", width: int = 1280, url: str = "", **look: Any) -> Page:
        """A fresh visitor's page, at the front door."""
        page = await self.blank(language, width, url, **look)
        await self.arrive(page)
        return page

    async def arrive(self, page: Page) -> None:
        """Come to the front door; again where the machine's network changed while the page was being loaded."""
        for _ in range(5):
            with suppress(TimeoutError):
                async with asyncio.timeout(ARRIVE_S):
                    await page.goto("/")
                    await page.wait_for_selector(".frame")
                    return
        raise AssertionError(f"the page does not load: {self.complaints}")

    async def blank(self, language: str = "en-US", width: int = 1280, url: str = "", **look: Any) -> Page:
        """A fresh visitor who has not come yet; `url` is another way to the hub."""
        context = await self.browser.new_context(
            locale=language, viewport={"width": width, "height": 900}, base_url=url or self.hub.url, **look,
        )
        context.set_default_timeout(20_000)
        self.contexts.append(context)
        page = await context.new_page()
        self.listen(page)
        return page

    def listen(self, page: Page) -> None:
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self.heard)

    def heard(self, said: ConsoleMessage) -> None:
        if said.type in ("error", "warning") and not any(part in said.text for part in self.tolerated):
            self.complaints.append(said.text)

    def expect_complaint(self, part: str) -> None:
        """Something the browser says itself about a refused request: it must be there, and may come again."""
        found = [text for text in self.complaints if part in text]
        assert found, f"nothing about {part!r} in {self.complaints}"
        self.forget_complaints(part)

    def forget_complaints(self, part: str) -> None:
        """What the browser says where it depends on the moment whether, and how often, it says it."""
        self.tolerated.append(part)
        self.complaints = [text for text in self.complaints if part not in text]


@pytest.fixture
async def screens(hub: HubProcess) -> AsyncIterator[Screens]:
    if CHROMIUM is None:
        assert not os.environ.get("REQUIRE_BROWSER"), "there is no Chromium here, and REQUIRE_BROWSER is set"
        pytest.skip("there is no Chromium here")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        screens = Screens(browser, hub)
        yield screens
        await browser.close()
    assert screens.complaints == []
