"""The admin's page: it is there for admins alone, shows what goes on, and does what it says."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.browser.conftest import MEDIA, HubProcess, Screens
from tests.browser.steps import choose_color, errand, order, register, sign_in, upload

pytestmark = pytest.mark.browser


async def test_an_admin_sees_services_and_tasks_and_acts_on_them(screens: Screens, hub: HubProcess) -> None:
    await errand(hub, "user", "add", "boss@example.org", "--admin")
    someone = await screens.open()
    email = await register(someone)
    await upload(someone, "video", MEDIA / "man-webcam.mp4")
    await choose_color(someone)
    page = await sign_in(screens, "boss@example.org")
    await page.locator(".admin-link").click()
    local = page.locator('[data-key="local"]')
    await expect(local.locator(".state")).to_have_text("Ready")
    await local.locator('[data-do="pause"]').click()
    await expect(local.locator(".state")).to_have_text("Paused")

    await order(someone)
    task = page.locator('.admin-row[data-state="waiting"]', has_text=email)
    await expect(task).to_be_visible()
    await task.locator('[data-do="cancel"]').click()
    await page.locator("dialog .danger").click()
    await expect(task).to_have_count(0)
    await expect(someone.locator(".task")).to_have_attribute("data-state", "cancelled")

    await page.locator('.switch label:has([value="all"])').click()
    again = page.locator('.admin-row[data-state="cancelled"]', has_text=email)
    await again.locator('[data-do="requeue"]').click()
    await page.locator("dialog .primary").click()
    await local.locator('[data-do="resume"]').click()
    await expect(someone.locator(".task")).to_have_attribute("data-state", "completed", timeout=60_000)
    await expect(local.locator(".facts").first).to_contain_text("completed")
    await page.locator(".admin-link").click()
    await expect(page.locator(".workspace")).to_be_visible()


async def test_a_new_service_shows_its_token_once(screens: Screens, hub: HubProcess) -> None:
    await errand(hub, "user", "add", "chief@example.org", "--admin")
    page = await sign_in(screens, "chief@example.org", language="zh-CN")
    await page.locator(".admin-link").click()
    await expect(page.locator(".admin h1")).to_have_text("管理")
    await page.locator(".admin-add summary").click()
    await page.fill("#service-name", "box-1")
    await page.locator(".admin-add form .primary").click()
    token = await page.locator(".secret code").inner_text()
    assert len(token) > 30
    await expect(page.locator('[data-key="box-1"] .state')).to_have_text("离线")
    await page.locator(".secret .primary").click()
    await page.reload()
    await expect(page.locator('[data-key="box-1"]')).to_be_visible()
    await expect(page.locator(".secret")).to_have_count(0)
    await page.locator('[data-key="box-1"] [data-do="remove"]').click()
    await page.locator("dialog .danger").click()
    await expect(page.locator('[data-key="box-1"]')).to_have_count(0)


async def test_users_do_not_see_it(screens: Screens) -> None:
    page = await screens.open()
    await register(page)
    await expect(page.locator(".admin-link")).to_be_hidden()
    await page.goto("/#admin")
    await page.reload()
    await expect(page.locator(".workspace")).to_be_visible()
    await expect(page.locator(".admin")).to_have_count(0)
