"""The whole way through the page: sign up, upload, order, watch, crash, play, download, tidy up."""

from __future__ import annotations

import asyncio
import hashlib
import re
from pathlib import Path

import pytest
from playwright.async_api import Route, expect

from tests.browser.conftest import MEDIA, HubProcess, Screens
from tests.browser.steps import choose_color, order, register, step, upload

pytestmark = pytest.mark.browser

VIDEO, LONG_VIDEO = MEDIA / "man-webcam.mp4", MEDIA / "woman-portrait.mp4"
PICTURE = MEDIA / "bg-rocket.jpg"
PLAYED = """video => new Promise(resolve => {
    const look = () => { if (video.currentTime > 0.2) resolve(true); };
    video.addEventListener("timeupdate", look);
    look();
})"""
WORK_MS = 120_000  # two slow cores may take a while


async def test_from_sign_up_to_download(screens: Screens) -> None:
    page = await screens.open()
    await register(page)
    await upload(page, "video", VIDEO)
    facts = step(page, "video").locator(".chosen .facts")
    for fact in ("0:02", "640×360", "72\u00a0frames", "208\u00a0kB", "with\u00a0sound"):
        await expect(facts).to_contain_text(fact)
    for part, width in ((".chosen-poster img", 640), (".chosen-strip img", 8 * 160)):
        picture = step(page, "video").locator(part)
        assert await picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == width
    prospect = step(page, "model").locator("li:has(input:checked) small")
    await expect(prospect).to_have_text(re.compile("for this video|is not known yet"))
    await upload(page, "background", PICTURE)
    await order(page)
    task = page.locator(".task")
    await expect(task).to_have_attribute("data-state", "completed", timeout=WORK_MS)
    made = task.locator('video[data-part="made"]')
    await expect(made).to_be_visible()  # it was watched, so it opens by itself
    await expect(task.locator('[data-part="original"]')).to_be_visible()
    await task.locator('[data-part="together"]').click()
    await expect(task.locator('[data-part="together"]')).to_have_text("Pause both")
    for part in ("made", "original"):
        assert await task.locator(f'video[data-part="{part}"]').evaluate(PLAYED)
    async with page.expect_download() as download:
        await task.locator('[data-part="download"]').click()
    path = await (await download.value).path()
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    await expect(task.locator('[data-part="facts"]')).to_contain_text(digest[:12])


async def test_a_reload_loses_nothing(screens: Screens) -> None:
    page = await screens.open()
    await register(page)
    await upload(page, "video", LONG_VIDEO)
    await choose_color(page)
    await order(page)
    task = page.locator(".task")
    await expect(task).to_have_attribute("data-state", "processing", timeout=WORK_MS)
    await page.reload()
    await expect(task).to_have_attribute("data-state", "processing")
    await expect(step(page, "video").locator(".chosen .name")).to_have_text(LONG_VIDEO.name)
    await expect(page.locator(".color")).to_be_visible()
    await task.locator('[data-part="cancel"]').click()
    await page.locator("dialog .danger").click()
    await expect(task).to_have_attribute("data-state", "cancelled")


async def test_p10_catches_up_by_itself_after_the_hub_was_killed(screens: Screens, hub: HubProcess) -> None:
    page = await screens.open()
    await register(page)
    await upload(page, "video", LONG_VIDEO)
    await choose_color(page)
    await order(page)
    task = page.locator(".task")
    await expect(task).to_have_attribute("data-state", "processing", timeout=WORK_MS)
    hub.kill()
    await expect(page.locator('.live[data-state="waiting"]')).to_be_visible()
    await expect(task).to_be_visible()
    hub.start()
    await expect(page.locator('.live[data-state="live"]')).to_be_visible(timeout=30_000)
    await expect(task).to_have_attribute("data-state", "completed", timeout=WORK_MS)
    screens.forget_complaints("net::ERR_")


@pytest.mark.parametrize("name", ["-m worker", "mongod"])
async def test_p5_the_task_completes_although_a_process_beside_the_hub_was_killed(
    screens: Screens, hub: HubProcess, name: str
) -> None:
    page = await screens.open()
    await register(page)
    await upload(page, "video", LONG_VIDEO)
    await choose_color(page)
    await order(page)
    task = page.locator(".task")
    await expect(task).to_have_attribute("data-state", "processing", timeout=WORK_MS)
    hub.kill_child(name)
    await expect(task).to_have_attribute("data-state", "completed", timeout=WORK_MS)


async def test_cancel_try_again_and_delete(screens: Screens) -> None:
    page = await screens.open()
    await register(page)
    await upload(page, "video", LONG_VIDEO)
    await choose_color(page)
    await order(page)
    task = page.locator(".task")
    await expect(task).to_have_attribute("data-state", "processing", timeout=WORK_MS)
    await task.locator('[data-part="cancel"]').click()
    await page.keyboard.press("Escape")
    await expect(task).to_have_attribute("data-state", "processing")
    await task.locator('[data-part="cancel"]').click()
    await page.locator("dialog .danger").click()
    await expect(task).to_have_attribute("data-state", "cancelled")
    await task.locator('[data-part="retry"]').click()
    await expect(task.locator('[data-part="cancel"]')).to_be_visible()
    await task.locator('[data-part="cancel"]').click()
    if await task.get_attribute("data-state") == "processing":
        await page.locator("dialog .danger").click()
    await expect(task).to_have_attribute("data-state", "cancelled")
    await task.locator('[data-part="remove"]').click()
    await page.locator("dialog .danger").click()
    await expect(task).to_have_count(0)
    await expect(page.locator(".empty")).to_be_visible()
    assert await page.evaluate("document.activeElement.id") == "tasks-title"


async def test_a_task_whose_video_was_deleted_stays_and_says_so(screens: Screens) -> None:
    page = await screens.open()
    await register(page)
    await upload(page, "video", LONG_VIDEO)
    await choose_color(page)
    await order(page)
    task, video = page.locator(".task"), step(page, "video")
    await expect(task).to_have_attribute("data-state", "processing", timeout=WORK_MS)
    await task.locator('[data-part="cancel"]').click()
    await page.locator("dialog .danger").click()
    await expect(task).to_have_attribute("data-state", "cancelled")
    await video.locator(".thumb").hover()
    await video.locator('.thumb [data-part="remove"]').click()
    await page.locator("dialog .danger").click()
    await expect(video.locator(".thumb")).to_have_count(0)
    await task.locator('[data-part="retry"]').click()
    await expect(task.locator(".problem:visible")).to_contain_text("has been deleted")
    await page.select_option('[data-part="language"]', "zh-CN")
    await expect(task.locator(".problem:visible")).to_contain_text("已被删除")
    screens.expect_complaint("404")


async def test_an_earlier_file_is_chosen_again_and_deleted(screens: Screens) -> None:
    page = await screens.open()
    await register(page)
    await upload(page, "background", PICTURE)
    await page.evaluate("sessionStorage.clear()")
    await page.reload()
    background = step(page, "background")
    await background.locator(".thumb label").click()
    await expect(background.locator(".chosen .name")).to_have_text(PICTURE.name)
    await background.locator(".thumb").hover()
    await background.locator('.thumb [data-part="remove"]').click()
    await page.locator("dialog .danger").click()
    await expect(background.locator(".chosen")).to_be_hidden()
    await expect(background.locator(".thumb")).to_have_count(0)


async def test_a_dropped_file_is_uploaded(screens: Screens) -> None:
    page = await screens.open()
    await register(page)
    carried = await page.evaluate_handle(
        """bytes => {
            const carried = new DataTransfer();
            carried.items.add(new File([new Uint8Array(bytes)], "火箭.jpg", { type: "image/jpeg" }));
            carried.items.add(new File(["x"], "second.jpg", { type: "image/jpeg" }));
            return carried;
        }""",
        list(PICTURE.read_bytes()),
    )
    picker = step(page, "background").locator(".picker")
    await picker.dispatch_event("drop", {"dataTransfer": carried})
    await expect(picker.locator(".chosen .name")).to_have_text("火箭.jpg")
    await expect(picker.locator(".problem")).to_contain_text("Only the first file is taken")


async def test_a_file_that_another_tab_deletes_is_not_chosen_any_more(screens: Screens) -> None:
    page = await screens.open()
    await register(page)
    other = await page.context.new_page()
    screens.listen(other)
    await other.goto("/")
    deleting, video = step(other, "video"), step(page, "video")
    await choose_color(page)
    for how in ("orders", "looks again"):
        await upload(page, "video", VIDEO)
        await expect(video.locator(".chosen")).to_be_visible()
        await other.reload()
        await deleting.locator(".thumb").hover()
        await deleting.locator('.thumb [data-part="remove"]').click()
        await other.locator("dialog .danger").click()
        await expect(deleting.locator(".thumb")).to_have_count(0)
        if how == "orders":
            await page.locator('[data-part="create"]').click()
        else:
            await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        await expect(video.locator(".problem")).to_have_text(f"“{VIDEO.name}” has been deleted.")
        await expect(video.locator(".chosen")).to_be_hidden()
        await expect(video.locator(".thumb")).to_have_count(0)
    screens.expect_complaint("404")


async def test_a_hub_that_does_not_answer_is_told_of(screens: Screens) -> None:
    page = await screens.open()
    await register(page)
    await upload(page, "video", VIDEO)
    await choose_color(page)
    answers = asyncio.Event()

    async def hold(route: Route) -> None:
        await answers.wait()
        await route.continue_()

    await page.route("**/api/tasks", hold)
    await page.locator('[data-part="create"]').click()
    problem = page.locator(".go .problem")
    await expect(problem).to_contain_text("The hub has not answered yet.", timeout=10_000)
    answers.set()
    await expect(page.locator(".task")).to_have_count(1)
    await expect(problem).to_be_hidden()


async def test_two_tabs_show_the_same(screens: Screens) -> None:
    page = await screens.open()
    await register(page)
    other = await page.context.new_page()
    screens.listen(other)
    await other.goto("/")
    await expect(other.locator('.live[data-state="live"]')).to_be_visible()
    await upload(page, "video", VIDEO)
    await choose_color(page)
    await order(page)
    await expect(other.locator(".task .name")).to_have_text(VIDEO.name)
    await expect(other.locator(".task")).to_have_attribute("data-state", "completed", timeout=WORK_MS)
    await page.locator('[data-part="signOut"]').click()
    await expect(page.locator(".sign .note")).to_have_text("You are signed out.")
    await expect(other.locator(".sign")).to_be_visible()


async def test_where_websockets_are_blocked_the_list_comes_all_the_same(screens: Screens) -> None:
    page = await screens.open()
    await register(page)
    await page.context.route_web_socket("**/api/live", lambda socket: socket.close())
    await page.reload()
    await upload(page, "video", VIDEO)
    await choose_color(page)
    await order(page)
    await expect(page.locator(".task")).to_have_attribute("data-state", "completed", timeout=WORK_MS)
    await expect(page.locator('.live[data-state="live"]')).to_have_count(0)
