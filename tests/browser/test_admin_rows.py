"""The rows of the admin's page: they change under the pointer and the keyboard without taking anything away."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import MEDIA, HubProcess, Screens
from tests.browser.steps import (
    cancel_waiting, choose_color, choose_model, errand, order, register, sign_in, upload, worker_process,
)

pytestmark = pytest.mark.browser

names = itertools.count(1)

ORDER_MORE = """async () => {  // 54 tasks like the one that there is
  const { token } = JSON.parse(localStorage['vsh.session']);
  const headers = { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' };
  const { items: [{ model, video }] } = await (await fetch('/api/tasks', { headers })).json();
  const body = JSON.stringify({ video_id: video.id, model });
  for (let more = 0; more < 54; more += 1) await fetch('/api/tasks', { method: 'POST', headers, body });
}"""


async def admin_page(screens: Screens, hub: HubProcess, **look: Any) -> Page:
    """A new admin, at the admin's page."""
    email = f"rows-chief{next(names)}@example.org"
    await errand(hub, "user", "add", email, "--admin")
    page = await sign_in(screens, email, **look)
    await page.locator(".admin-link").click()
    await expect(page.locator('[data-key="local"]')).to_be_visible()
    return page


@asynccontextmanager
async def services(hub: HubProcess, count: int) -> AsyncIterator[list[str]]:
    """So many registered services, which sort before and after others; they are gone at the end."""
    made = [f"{letter}-{next(names)}" for letter in "abcdefghijklm"[:count]]
    for name in made:
        await errand(hub, "interface", "add", name)
    try:
        yield made
    finally:
        for name in made:
            await errand(hub, "interface", "remove", name)


async def add(page: Page, name: str) -> None:
    """Register a service with the form."""
    await page.locator(".admin-add summary").click()
    await page.fill("#service-name", name)
    await page.locator(".admin-add form .primary").click()


async def remove(page: Page, name: str) -> None:
    await page.locator(f'[data-key="{name}"] [data-do="remove"]').click()
    await page.locator("dialog .danger").click()
    await expect(page.locator(f'[data-key="{name}"]')).to_have_count(0)


async def next_round(page: Page) -> None:
    """Wait until everything was asked for and drawn once more."""
    for _ in range(2):
        async with page.expect_response("**/api/admin/stats"):
            pass
    await page.evaluate("() => new Promise((resolve) => requestAnimationFrame(resolve))")


async def test_a_token_is_shown_before_the_eyes_until_it_is_kept(screens: Screens, hub: HubProcess) -> None:
    page = await admin_page(screens, hub)
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await add(page, "box-keep")
    dialog = page.locator("dialog.secret")
    await expect(dialog.locator("code")).to_be_in_viewport()
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_visible()
    token = await dialog.locator("code").inner_text()
    await dialog.locator("[data-copy]").click()
    await expect(dialog.locator('[role="status"]')).to_have_text("Copied")
    assert await page.evaluate("navigator.clipboard.readText()") == token
    await dialog.locator(".primary").click()
    await expect(dialog).to_have_count(0)
    await expect(page.locator('[data-key="box-keep"] button').first).to_be_focused()
    await page.locator('[data-key="box-keep"] [data-do="rotate"]').click()
    await page.locator("dialog .danger").click()
    await expect(dialog.locator("code")).to_be_in_viewport()
    assert await dialog.locator("code").inner_text() != token
    await dialog.locator(".primary").click()
    await expect(page.locator('[data-key="box-keep"] [data-do="rotate"]')).to_be_focused()
    await remove(page, "box-keep")


async def test_what_is_wrong_with_a_new_service_is_said_in_the_form(screens: Screens, hub: HubProcess) -> None:
    async with services(hub, 8):
        page = await admin_page(screens, hub)
        await expect(page.locator(".admin-rows > [data-service]")).to_have_count(9)
        await add(page, "local")
        problem = page.locator(".admin-add .problem")
        await expect(problem).to_be_in_viewport(ratio=1)
        await next_round(page)
        await expect(problem).to_be_visible()
        screens.expect_complaint("409")


async def test_a_slow_press_is_a_press_although_the_row_changes_meanwhile(screens: Screens, hub: HubProcess) -> None:
    page = await admin_page(screens, hub)
    button = page.locator('[data-key="local"] [data-do="disable"]')
    box = await button.bounding_box()
    assert box is not None
    await page.mouse.move(box["x"] + 10, box["y"] + 10)
    await page.mouse.down()
    before = await page.locator('[data-key="local"]').inner_text()
    await page.wait_for_function(
        "(before) => document.querySelector('[data-key=local]').innerText !== before", arg=before,
    )
    await page.mouse.up()
    await expect(page.locator("dialog")).to_be_visible()


async def test_a_selected_text_stays_selected(screens: Screens, hub: HubProcess) -> None:
    page = await admin_page(screens, hub)
    before = await page.locator('[data-key="local"]').inner_text()
    await page.evaluate("""() => {
      const text = document.querySelector('[data-key="local"] .facts').firstChild;
      getSelection().setBaseAndExtent(text, 0, text, 10);
    }""")
    selected = await page.evaluate("getSelection().toString()")
    assert len(selected) == 10
    await page.wait_for_function(
        "(before) => document.querySelector('[data-key=local]').innerText !== before", arg=before,
    )
    assert await page.evaluate("getSelection().toString()") == selected


async def test_the_focus_stays_with_the_row(screens: Screens, hub: HubProcess) -> None:
    """Through a button that becomes another one, a question that is answered with no, and a row that goes."""
    async with services(hub, 2) as (first, second):
        page = await admin_page(screens, hub)
        row = page.locator(f'[data-key="{first}"]')
        await row.locator('[data-do="pause"]').focus()
        await page.keyboard.press("Enter")
        await expect(row.locator('[data-do="resume"]')).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(row.locator('[data-do="pause"]')).to_be_focused()
        await row.locator('[data-do="disable"]').focus()
        await page.keyboard.press("Enter")
        await next_round(page)
        await page.keyboard.press("Escape")
        await expect(row.locator('[data-do="disable"]')).to_be_focused()
        await row.locator('[data-do="remove"]').focus()
        await page.keyboard.press("Enter")
        await page.locator("dialog .danger").click()
        await expect(page.locator(f'[data-key="{second}"] [data-do="remove"]')).to_be_focused()
        await errand(hub, "interface", "add", first)  # for the end, when it is removed


async def test_a_note_is_changed(screens: Screens, hub: HubProcess) -> None:
    page = await admin_page(screens, hub)
    for note in ("rack 4 & up", ""):
        await page.locator('[data-key="local"] [data-do="note"]').click()
        await page.fill("#ask-text", note)
        await page.keyboard.press("Enter")
        await expect(page.locator("dialog")).to_have_count(0)
        shown = page.locator('[data-key="local"]', has_text="rack 4 & up")
        await expect(shown).to_have_count(1 if note else 0)
        await expect(page.locator('[data-key="local"] [data-do="note"]')).to_be_focused()


async def test_a_long_list_says_so_and_shows_more(screens: Screens, hub: HubProcess) -> None:
    someone = await screens.open()
    await register(someone)
    await upload(someone, "video", MEDIA / "man-webcam.mp4")
    await choose_color(someone)
    page = await admin_page(screens, hub)
    await page.locator('[data-key="local"] [data-do="pause"]').click()
    await expect(page.locator('[data-key="local"] .state')).to_have_text("Paused")
    await order(someone)
    await someone.evaluate(ORDER_MORE)
    section = page.locator('[aria-labelledby="all-tasks-title"]')
    await expect(section.locator(".admin-more")).to_contain_text("50 of 55 are shown")
    await expect(page.locator('[aria-labelledby="models-title"]')).to_contain_text("55 waiting", timeout=15_000)
    await section.locator('[data-part="more"]').click()
    await expect(section.locator(".admin-row")).to_have_count(55)
    await expect(section.locator(".admin-more")).to_be_hidden()
    await expect(section.locator(".admin-row button").nth(50)).to_be_focused()
    await cancel_waiting(someone)
    await page.locator('[data-key="local"] [data-do="resume"]').click()


async def test_a_worker_that_is_to_finish_and_leave_is_at_work_until_it_has_left(
    screens: Screens, hub: HubProcess, tmp_path: Path,
) -> None:
    target = tmp_path / "target"
    target.write_text("40")
    async with worker_process(hub, "leaver", "steady_worker", TARGET=str(target), SHOWN=str(tmp_path / "shown")):
        page = await admin_page(screens, hub)
        row = page.locator('[data-key="leaver"]')
        await expect(row.locator(".state")).to_have_text("Ready")
        someone = await screens.open()
        await register(someone)
        await upload(someone, "video", MEDIA / "man-webcam.mp4")
        await choose_color(someone)
        await choose_model(someone, "steady")
        await order(someone)
        await expect(row.locator("progress")).to_be_visible()
        await row.locator('[data-do="drain"]').click()
        await expect(row.locator(".state")).to_have_text("Finishing")
        await expect(row).to_contain_text("1 of 1 slots in use")
        target.write_text("100")
        await expect(row.locator(".state")).to_have_text("Offline", timeout=30_000)
        await expect(someone.locator(".task")).to_have_attribute("data-state", "completed")
        await remove(page, "leaver")


async def test_users_are_promoted_and_shut_out(screens: Screens, hub: HubProcess) -> None:
    someone = await screens.open()
    email = await register(someone)
    page = await admin_page(screens, hub)
    row = page.locator("[data-user]", has=page.get_by_text(email, exact=True))
    await expect(row.locator(".state")).to_have_text("User")
    await row.locator('[data-do="promote"]').click()
    await page.locator('dialog [value="yes"]').click()
    await expect(row.locator(".state")).to_have_text("Admin")
    await expect(row.locator('[data-do="demote"]')).to_be_focused()
    await row.locator('[data-do="demote"]').click()
    await page.locator('dialog [value="yes"]').click()
    await row.locator('[data-do="shut_out"]').click()
    await page.locator("dialog .danger").click()
    await expect(row.locator(".state")).to_have_text("Shut out")
    await expect(someone.locator(".sign")).to_be_visible()
    await row.locator('[data-do="take_back"]').click()
    await expect(row.locator(".state")).to_have_text("User")
    await row.locator('[data-do="weight"]').click()
    await page.locator("#ask-text").fill("3")
    await page.locator('dialog [value="yes"]').click()
    await expect(row).to_contain_text("weight 3")
    screens.forget_complaints("401")


@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
async def test_nothing_sticks_out_on_a_phone(screens: Screens, hub: HubProcess, language: str) -> None:
    page = await admin_page(screens, hub, language=language, width=390)
    for _ in ("admin", "tasks"):
        for state in ("Live", "Reconnecting…"):
            words = page.locator('[data-part="liveText"]')
            await words.evaluate("(node, state) => { node.textContent = state; }", state)
            for width in (390, 360, 320):
                await page.set_viewport_size({"width": width, "height": 800})
                sticking = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
                assert sticking <= 0, (page.url, state, width)
        await page.goto("/#")
        await expect(page.locator(".workspace")).to_be_visible()
