"""What several browser tests do on the page."""

from __future__ import annotations

import itertools
from pathlib import Path

from playwright.async_api import Locator, Page, expect

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
