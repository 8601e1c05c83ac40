"""The page for everybody: both languages, small and dark screens, the keyboard, clear words when something is wrong."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import MEDIA, Screens
from tests.browser.steps import PASSWORD, choose_color, order, register, step, upload

pytestmark = pytest.mark.browser

VIDEO = MEDIA / "man-webcam.mp4"
OUTLINED = """() => {
    const { activeElement: at } = document;
    const shown = [at, at.nextElementSibling, at.closest("label")];
    return shown.some(node => node && getComputedStyle(node).outlineStyle !== "none");
}"""
HOSTILE = '"><img src=x onerror="document.title=\'owned\'">.mp4'


async def overflow(page: Page) -> int:
    """Pixels by which the page is wider than the window."""
    return int(await page.evaluate("document.documentElement.scrollWidth - innerWidth"))


@pytest.mark.parametrize(("language", "scheme"), [("zh-CN", "light"), ("en-US", "dark")])
async def test_nothing_sticks_out_on_a_small_screen(screens: Screens, language: str, scheme: str) -> None:
    page = await screens.open(language, 390, color_scheme=scheme)
    assert await overflow(page) <= 0
    await register(page)
    assert await overflow(page) <= 0
    await upload(page, "video", VIDEO)
    await choose_color(page)
    await order(page)
    await expect(page.locator(".task")).to_have_attribute("data-state", "completed", timeout=120_000)
    await expect(page.locator('video[data-part="made"]')).to_be_visible()
    assert await overflow(page) <= 0


async def test_the_language_is_switched_in_place_and_remembered(screens: Screens) -> None:
    page = await screens.open("zh-CN")
    await expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    await expect(page.locator(".sign h2")).to_have_text("欢迎回来")
    await register(page)
    await upload(page, "video", VIDEO)
    visible = await page.locator("main").inner_text()
    for english in ("Video", "Background", "Model", "Choose", "Start", "task", "ready"):
        assert not re.search(rf"\b{english}\b", visible), english
    await page.select_option('[data-part="language"]', "en")
    await expect(page.locator("html")).to_have_attribute("lang", "en")
    await expect(step(page, "video").locator("h3")).to_contain_text("Video")
    await expect(step(page, "video").locator(".chosen .name")).to_have_text(VIDEO.name)
    await expect(page).to_have_title("Video Segmentation Hub")
    await page.reload()
    await expect(page.locator("html")).to_have_attribute("lang", "en")


async def test_wrong_credentials_are_told_in_the_form(screens: Screens) -> None:
    page = await screens.open()
    await page.fill("#email", "nobody@example.org")
    await page.fill("#password", "not the password")
    await page.keyboard.press("Enter")
    await expect(page.locator(".sign .problem")).to_have_text("E-mail and password do not match.")
    screens.expect_complaint("401")
    await page.locator('.sign [data-part="other"]').click()
    await page.fill("#password", "short")
    await page.keyboard.press("Enter")
    await expect(page.locator(".sign .problem")).to_have_text("The password needs at least 8 characters.")
    screens.forget_complaints("422")


async def test_an_empty_sign_in_is_answered_in_the_language_of_the_page(screens: Screens) -> None:
    page = await screens.open("en-US")
    await page.select_option('[data-part="language"]', "zh-CN")
    problem = page.locator(".sign .problem")
    for email, said, field in (
        ("", "请输入电子邮箱。", "#email"), ("nobody", "这不是有效的邮箱地址。", "#email"),
        ("nobody@example.org", "请输入密码。", "#password"),
    ):
        await page.fill("#email", email)
        await page.keyboard.press("Enter")
        await expect(problem).to_have_text(said)
        await expect(page.locator(field)).to_be_focused()
    await page.select_option('[data-part="language"]', "en")
    await expect(problem).to_have_text("Please enter your password.")


async def test_what_is_missing_is_said_beside_it(screens: Screens) -> None:
    page = await screens.open()
    await register(page)
    await page.locator('[data-part="create"]').click()
    await expect(step(page, "video").locator(".problem")).to_have_text("Choose a video first.")
    await expect(page.locator("#video-file")).to_be_focused()
    await upload(page, "video", VIDEO)
    await expect(step(page, "video").locator(".problem")).to_be_hidden()
    await page.locator('[data-part="create"]').click()
    await expect(step(page, "background").locator(".problem")).to_contain_text("Choose a picture")
    await expect(page.locator(".task")).to_have_count(0)


async def test_what_is_missing_is_not_hidden_by_the_header(screens: Screens) -> None:
    page = await screens.open(width=390)
    await page.set_viewport_size({"width": 390, "height": 500})
    await register(page)
    await page.locator('[data-part="create"]').click()
    problem = step(page, "video").locator(".problem")
    await expect(problem).to_be_visible()
    assert await problem.evaluate(
        """problem => {
            const header = document.querySelector(".top").getBoundingClientRect();
            const { top, bottom } = problem.getBoundingClientRect();
            return top >= header.bottom && bottom <= innerHeight;
        }"""
    )


async def test_a_refused_file_is_told_in_the_reader_s_language(screens: Screens) -> None:
    page = await screens.open("zh-CN")
    await register(page)
    fake = {"name": HOSTILE, "mimeType": "video/mp4", "buffer": b"this is no video"}
    await page.set_input_files("#video-file", fake)  # type: ignore[arg-type]
    await expect(step(page, "video").locator(".problem")).to_have_text(f"“{HOSTILE}”：这不是可以读取的视频文件。")
    text = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"hello"}
    await page.set_input_files("#video-file", text)  # type: ignore[arg-type]
    await expect(step(page, "video").locator(".problem")).to_have_text("“notes.txt”不是视频。")


async def test_p16_a_hostile_file_name_is_only_a_name(screens: Screens) -> None:
    page = await screens.open()
    await register(page)
    file = {"name": HOSTILE, "mimeType": "video/mp4", "buffer": VIDEO.read_bytes()}
    await page.set_input_files("#video-file", file)  # type: ignore[arg-type]
    name = step(page, "video").locator(".chosen .name")
    await expect(name).to_contain_text("onerror")
    await choose_color(page)
    await order(page)
    await expect(page.locator(".task h3")).to_contain_text("onerror")
    assert await page.locator('img[src="x"]').count() == 0
    assert await page.title() != "owned"


async def test_a_token_that_is_not_known_leads_back_to_the_front_door(screens: Screens) -> None:
    page = await screens.open()
    await page.evaluate("""localStorage.setItem("vsh.session", '{"token":"stale","user":{"email":"a@b.c"}}')""")
    await page.reload()
    await expect(page.locator(".sign .note")).to_have_text("Your session has ended. Please sign in again.")
    await expect(page.locator("#email")).to_have_value("a@b.c")
    assert await page.evaluate('localStorage.getItem("vsh.session")') is None
    screens.forget_complaints("401")
    screens.forget_complaints("closed before the connection is established")


async def test_a_password_is_changed_and_all_tabs_go_on(screens: Screens) -> None:
    page = await screens.open(width=390)
    email = await register(page)
    other = await page.context.new_page()
    screens.listen(other)
    await other.goto("/")
    live = '.live[data-state="live"]'
    await expect(other.locator(live)).to_have_count(1)
    await page.locator('[data-part="password"]').click()
    dialog = page.locator("dialog")
    await page.keyboard.press("Enter")
    await expect(dialog.locator(".problem")).to_have_text("Please enter your current password.")
    await page.fill("#old-password", "not the password")
    await page.fill("#new-password", "another sentence")
    await page.keyboard.press("Enter")
    await expect(dialog.locator(".problem")).to_have_text("The current password is not right.")
    screens.expect_complaint("401")
    await page.fill("#old-password", PASSWORD)
    await page.keyboard.press("Enter")
    await expect(dialog).to_contain_text("Your password is changed.")
    await page.keyboard.press("Enter")
    await expect(dialog).to_have_count(0)
    for tab in (page, other):
        await expect(tab.locator(live)).to_have_count(1)
        await expect(tab.locator(".workspace")).to_be_visible()
    await page.locator('[data-part="signOut"]').click()
    await page.fill("#email", email)
    await page.fill("#password", "another sentence")
    await page.keyboard.press("Enter")
    await expect(page.locator(".workspace")).to_be_visible()
    screens.forget_complaints("WebSocket")


async def test_the_keyboard_alone_is_enough(screens: Screens) -> None:
    page = await screens.open()
    email = await register(page)
    await page.locator('[data-part="signOut"]').click()
    await expect(page.locator("#email")).to_be_focused()
    await page.keyboard.type(email)
    await page.keyboard.press("Tab")
    await page.keyboard.type(PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page.locator('.live[data-state="live"]')).to_be_visible()
    await upload(page, "video", VIDEO)
    await page.locator('[name="kind"][value="picture"]').focus()
    await page.keyboard.press("ArrowRight")
    await expect(page.locator(".color")).to_be_visible()
    reached = []
    for _ in range(40):
        await page.keyboard.press("Tab")
        name = await page.evaluate("document.activeElement.name || document.activeElement.dataset.part")
        outlined = await page.evaluate(OUTLINED)
        assert outlined, f"the focus on {name} cannot be seen"
        reached.append(name)
        if name == "create":
            break
    assert reached == ["color", "model", "create"]
    await page.keyboard.press("Enter")
    await expect(page.locator(".task")).to_have_count(1)


async def test_everything_that_acts_has_a_name(screens: Screens) -> None:
    page = await screens.open()
    await register(page)
    await upload(page, "video", VIDEO)
    await choose_color(page)
    await order(page)
    await expect(page.locator(".task")).to_have_attribute("data-state", "completed", timeout=120_000)
    nameless = await page.evaluate(
        """() => [...document.querySelectorAll('button, input, select, progress, summary')]
            .filter(node => node.checkVisibility())
            .filter(node => !(node.getAttribute('aria-label') || node.innerText?.trim() || node.labels?.length))
            .map(node => node.outerHTML)"""
    )
    assert nameless == []
