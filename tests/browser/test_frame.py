"""The frame around every page: it loses nothing, asks before an upload ends, and says each thing aloud."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import MEDIA, HubProcess, Screens
from tests.browser.steps import errand, register, sign_in, slow
from tests.resuming.client import padded

pytestmark = pytest.mark.browser

FOLLOWS_S = 30.0  # the hub sees within seconds what its command line has done
chiefs = itertools.count(1)


async def at_the_admin_page(screens: Screens, hub: HubProcess) -> Page:
    """A new admin, who looks at the admin's page."""
    email = f"frame-chief{next(chiefs)}@example.org"
    await errand(hub, "user", "add", email, "--admin")
    page = await sign_in(screens, email)
    await page.locator(".admin-link").click()
    await expect(page.locator('[data-key="local"]')).to_be_visible()
    return page


async def skip(page: Page) -> None:
    """Take the link past the header, and arrive."""
    await page.locator(".skip").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("main")).to_be_focused()


async def test_every_page_has_one_title(screens: Screens, hub: HubProcess) -> None:
    title = (await screens.open()).get_by_role("heading", level=1)
    await expect(title).to_have_text("Give your video a new background")
    page = await at_the_admin_page(screens, hub)
    await expect(page.get_by_role("heading", level=1)).to_have_text("Administration")
    await page.locator(".admin-link").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Video Segmentation Hub")


async def test_skipping_to_the_content_keeps_the_page(screens: Screens, hub: HubProcess) -> None:
    page = await at_the_admin_page(screens, hub)
    await page.locator(".admin-add summary").click()
    await page.fill("#service-name", "half-typed")
    await skip(page)
    await expect(page.locator("#service-name")).to_have_value("half-typed")
    assert page.url.endswith("#admin")


async def test_skipping_to_the_content_keeps_what_was_typed_at_the_front_door(screens: Screens) -> None:
    page = await screens.open()
    await page.fill("#email", "me@example.org")
    await skip(page)
    await page.evaluate("location.hash = 'elsewhere'")
    await expect(page.locator("#email")).to_have_value("me@example.org")


async def test_signing_out_on_the_admin_page_asks_while_something_is_uploaded(
    screens: Screens, hub: HubProcess, tmp_path: Path,
) -> None:
    video = tmp_path / "long.mp4"
    video.write_bytes(padded(8 * 1024 * 1024, 43))
    page = await at_the_admin_page(screens, hub)
    await page.locator(".admin-link").click()
    await slow(page, 500_000)
    await page.set_input_files("#video-file", video)
    await expect(page.locator(".sending:visible")).to_have_count(1)
    await page.locator(".admin-link").click()
    await page.locator('[data-part="signOut"]').click()
    await expect(page.locator("dialog")).to_contain_text("An upload is still running")
    await page.locator('dialog [value="no"]').click()
    await expect(page.locator(".admin")).to_be_visible()
    await page.locator('[data-part="signOut"]').click()
    await page.locator("dialog .danger").click()
    await expect(page.locator(".sign")).to_be_visible()


async def test_the_same_words_are_said_aloud_again(screens: Screens) -> None:
    """Assistive technology reads what is put into the voice, so the same words must be put there anew."""
    page = await screens.open()
    await register(page)
    await page.evaluate("""() => {
      window.said = [];
      const voice = document.querySelector('[data-part="voice"]');
      new MutationObserver((changes) => {
        for (const { addedNodes } of changes) said.push(...Array.from(addedNodes, (node) => node.textContent));
      }).observe(voice, { childList: true });
    }""")
    for times in (1, 2):
        await page.set_input_files("#video-file", MEDIA / "man-webcam.mp4")
        await page.wait_for_function(
            "(times) => said.filter((text) => text === 'man-webcam.mp4 is ready').length === times", arg=times,
        )


async def test_a_click_inside_a_question_does_not_answer_it(screens: Screens, hub: HubProcess) -> None:
    page = await at_the_admin_page(screens, hub)
    await page.locator('[data-key="local"] [data-do="disable"]').click()
    box = await page.locator("dialog").bounding_box()
    assert box is not None
    await page.mouse.click(box["x"] + 8, box["y"] + box["height"] / 2)
    await expect(page.locator("dialog")).to_be_visible()
    await page.mouse.click(box["x"] - 20, box["y"] + box["height"] / 2)
    await expect(page.locator("dialog")).to_have_count(0)


async def test_who_is_made_an_admin_finds_the_page_and_who_is_none_any_more_loses_it(
    screens: Screens, hub: HubProcess,
) -> None:
    page = await screens.open()
    email = await register(page)
    await errand(hub, "user", "role", email, "admin")
    async with asyncio.timeout(FOLLOWS_S):
        while not await page.locator(".admin-link").is_visible():
            await page.reload()
            await page.wait_for_load_state("networkidle")
    await page.locator(".admin-link").click()
    await expect(page.locator('[data-key="local"]')).to_be_visible()
    await errand(hub, "user", "role", email, "user")
    await expect(page.locator(".workspace")).to_be_visible(timeout=FOLLOWS_S * 1000)
    await expect(page.locator(".admin-link")).to_be_hidden()
    screens.expect_complaint("403")
