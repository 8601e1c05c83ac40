"""A task's life through the edges: created, done by a worker over a real socket, looked at, ended in every way."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from hub.errors import Unavailable
from hub.ids import new_id
from hub.messages import Accept, Assign, Cancel, Decline, Failed, FailedAck, Offer, ResultAck
from hub.task import Task
from tests.handlers.fake_worker import FakeWorker, worker
from tests.handlers.running import Answer, Api, Person, fine, one_loop, refused, small_video
from tests.odd_media import WEBCAM

pytestmark = one_loop


async def create(person: Person, key: str | None, **fields: Any) -> Answer:
    headers = {} if key is None else {"Idempotency-Key": key}
    return await person("POST", "/api/tasks", headers=headers, json_body=fields)


async def ended(person: Person, id: str, state: str) -> dict[str, Any]:
    """The task once it is in this state."""
    async with asyncio.timeout(10):
        while (task := await person.get(f"/api/tasks/{id}"))["state"] != state:
            await asyncio.sleep(0.02)
    return dict(task)


# --- from the order to the result -------------------------------------------------------------------------------


async def test_p19_a_task_from_the_order_to_the_result(api: Api) -> None:
    """The whole way, with a real video with sound as its own result."""
    person, content = await api.user(), WEBCAM.read_bytes()
    async with worker(api) as maker:
        video, background = await person.upload_video(content), await person.upload_background()
        answer = await create(
            person, None, video_id=video["id"], background_id=background["id"], model=maker.model,
            options={"edge": 2, "color": "#00ff00", "soft": True}, priority=3,
        )
        task = fine(answer, 201)
        assert answer.headers["location"] == f"/api/tasks/{task['id']}"
        assert (task["state"], task["attempt"], task["priority"], task["progress"]) == ("waiting", 0, 3, 0)
        assert (task["video"]["id"], task["background"]["id"]) == (video["id"], background["id"])
        assign = await maker.take()
        assert (assign.task, assign.attempt, assign.options) == (task["id"], 1, task["options"])
        for given, sent in zip(assign.inputs, (video, background), strict=True):
            fetched = await api("GET", given.url)
            assert (given.sha256, given.size, len(fetched.body)) == (sent["sha256"], sent["size"], sent["size"])
        await maker.tell(assign, 40.5, message="half way, nearly")
        async with asyncio.timeout(5):
            while (seen := await person.get(f"/api/tasks/{task['id']}"))["progress"] != 40.5:
                await asyncio.sleep(0.01)
        assert (seen["state"], seen["phase"], seen["message"]) == ("processing", "segment", "half way, nearly")
        assert seen["worker"] == maker.name and seen["started_at"] and seen["ended_at"] is None
        await maker.finish(assign, content)
        done = await ended(person, task["id"], "completed")
    assert (done["progress"], done["phase"], done["attempt"], done["problem"]) == (100, None, 1, None)
    result = done["result"]["video"]
    assert (result["size"], result["frames"], result["name"]) == (len(content), 72, "v-result.mp4")
    assert (await api("GET", result["url"])).body == content
    assert (await person.get("/api/tasks"))["items"] == [done]


async def test_a_result_is_served_in_ranges_to_links_and_to_its_owner_alone(api: Api) -> None:
    person = await api.user()
    async with worker(api) as maker:
        task = await person.create(maker.model)
        assign = await maker.take()
        await maker.finish(assign)
        done = await ended(person, task["id"], "completed")
    result, content = done["result"]["video"], small_video()
    part = await api("GET", result["url"], headers={"Range": "bytes=100-199"})
    assert (part.status, part.body) == (206, content[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(content)}"
    download = await api("GET", result["download_url"])
    assert download.headers["content-disposition"].startswith("attachment;")
    plain = result["url"].partition("?")[0]
    assert (await person("GET", plain)).body == content
    refused(await api("GET", plain), 401, "unauthorized")
    refused(await (await api.user())("GET", plain), 404, "not_found")
    refused(await api("GET", result["url"].replace("signature=", "signature=x")), 403, "link_invalid")
    refused(await api("GET", f"{plain}?job={assign.upload_url.partition('job=')[2]}"), 409, "lease_lost")


async def test_a_deleted_task_takes_its_result_with_it(api: Api) -> None:
    person = await api.user()
    video = await person.upload_video()
    async with worker(api) as maker:
        async with api.unchanged():
            task = await person.create(maker.model, video["id"])
            await maker.finish(await maker.take(), small_video())
            done = await ended(person, task["id"], "completed")
            assert [name for name in api.files() if "results" in name]
            fine(await person("DELETE", f"/api/tasks/{task['id']}"), 204)
            refused(await api("GET", done["result"]["video"]["url"]), 404, "not_found")
    refused(await person("GET", f"/api/tasks/{task['id']}"), 404, "not_found")


async def test_p18_a_waiting_task_says_what_it_waits_for(api: Api) -> None:
    person, model = await api.user(), api.offer_model()
    waiting = await person.create(model)
    assert waiting["blocked_by"] == "no_worker_for_model"
    models = {item["name"]: item for item in (await person.get("/api/models"))["items"]}
    assert models[model]["workers_ready"] == 0
    async with worker(api, model) as maker:
        models = {item["name"]: item for item in (await person.get("/api/models"))["items"]}
        assert models[model]["workers_ready"] == 1
        assign = await maker.take()
        assert assign.task == waiting["id"]
        assert (await person.create(model))["blocked_by"] == "all_busy"


# --- the same request again -------------------------------------------------------------------------------------


async def test_p5_the_same_key_gives_the_same_task(api: Api) -> None:
    """P5: a create sent again is answered with the task it made; with another body it is refused."""
    person, other, model = await api.user(), await api.user(), api.offer_model()
    video, foreign = await person.upload_video(), await other.upload_video()
    wish = {"video_id": video["id"], "model": model}
    first = await create(person, "key", **wish)
    again = await create(person, "key", **wish)
    assert (fine(first, 201)["id"], first.headers.get("idempotency-replayed")) == (fine(again, 201)["id"], None)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    refused(await create(person, "key", **wish, priority=1), 422, "key_reused")
    assert fine(await create(other, "key", video_id=foreign["id"], model=model), 201)["id"] != first.json["id"]
    assert len((await person.get("/api/tasks"))["items"]) == 1
    for key in ("k" * 201, "a\tb"):
        refused(await create(person, key, **wish), 422, "invalid")


async def test_p5_of_many_at_once_one_is_made_and_the_others_are_told(api: Api) -> None:
    person, model = await api.user(), api.offer_model()
    video = await person.upload_video()
    answers = await asyncio.gather(*(create(person, "one", video_id=video["id"], model=model) for _ in range(8)))
    made = {answer.json["id"] for answer in answers if answer.status == 201}
    assert len(made) == 1
    for answer in answers:
        if answer.status != 201:
            refused(answer, 409, "running")
    assert [task["id"] for task in (await person.get("/api/tasks"))["items"]] == list(made)


async def test_p5_after_a_lost_answer_the_task_is_there_once(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """P5: the database did it and did not say so; the client got 503, asks again and gets the task."""
    person, model = await api.user(), api.offer_model()
    video = await person.upload_video()
    wish = {"video_id": video["id"], "model": model}
    runner = api.hub.rooms.runner
    carry_out = runner.carry_out

    async def carry_out_silently(effects: Any) -> None:
        await carry_out(effects)
        raise Unavailable("the answer is lost")

    with monkeypatch.context() as patch:
        patch.setattr(runner, "carry_out", carry_out_silently)
        lost = await create(person, "lost", **wish)
    refused(lost, 503, "unavailable")
    assert lost.headers["retry-after"] == "5"
    found = fine(await create(person, "lost", **wish), 201)
    assert [task["id"] for task in (await person.get("/api/tasks"))["items"]] == [found["id"]]


# --- other ends -------------------------------------------------------------------------------------------------


async def test_p7_cancel_is_told_to_the_worker_and_final_for_it(api: Api) -> None:
    """P7, row 125: after 200 to a cancel no result is accepted."""
    person = await api.user()
    async with worker(api) as maker:
        task = await person.create(maker.model)
        assign = await maker.take()
        upload = await maker.upload(assign, small_video())
        for _ in range(2):
            cancelled = fine(await person("POST", f"/api/tasks/{task['id']}/cancel", b""))
            assert (cancelled["state"], cancelled["result"]) == ("cancelled", None)
        assert (await maker.expect(Cancel)).lease == assign.lease
        assert upload.status == 201
        refused(await maker.upload(assign, small_video()), 409, "lease_lost")
        refused(await api("GET", assign.inputs[0].url), 409, "lease_lost")
        assert (await person.get(f"/api/tasks/{task['id']}"))["version"] == cancelled["version"]


async def test_a_cancelled_task_can_be_tried_again_and_a_completed_one_is_done(api: Api) -> None:
    person = await api.user()
    async with worker(api) as maker:
        task = await person.create(maker.model)
        await maker.expect(Offer)
        path = f"/api/tasks/{task['id']}"
        refused(await person("POST", f"{path}/retry", b""), 409, "task_waiting")
        fine(await person("POST", f"{path}/cancel", b""))
        again = fine(await person("POST", f"{path}/retry", b""))
        assert (again["state"], again["attempt"], again["ended_at"]) == ("waiting", 0, None)
        assign = await maker.take()
        refused(await person("DELETE", path), 409, "task_processing")
        refused(await person("POST", f"{path}/retry", b""), 409, "task_processing")
        await maker.finish(assign)
        refused(await person("POST", f"{path}/retry", b""), 409, "task_completed")
        refused(await person("POST", f"{path}/cancel", b""), 409, "task_completed")


async def test_a_task_that_cannot_be_done_fails_with_the_worker_s_reason(api: Api) -> None:
    person = await api.user()
    async with worker(api) as maker:
        task = await person.create(maker.model)
        assign = await maker.take()
        failure = Failed(lease=assign.lease, code="no_person", retryable=False, detail="nobody in the picture")
        await maker.say(failure)
        await maker.expect(FailedAck)
        failed = await ended(person, task["id"], "failed")
        assert failed["problem"] == {"code": "no_person", "detail": "nobody in the picture"}
        assert fine(await person("POST", f"/api/tasks/{task['id']}/retry", b""))["problem"] is None
        await maker.finish(await maker.take())
        assert (await ended(person, task["id"], "completed"))["attempt"] == 1


async def test_a_declined_task_is_offered_to_another(api: Api) -> None:
    person = await api.user()
    async with worker(api) as first, worker(api, first.model) as second:
        task = await person.create(first.model)
        listening = [asyncio.ensure_future(each.expect(Offer)) for each in (first, second)]
        [answered], [waiting] = await asyncio.wait(listening, return_when=asyncio.FIRST_COMPLETED)
        chosen, other = (first, second) if first.seen > second.seen else (second, first)
        await chosen.say(Decline(offer=answered.result().offer, reason="no memory"))
        await other.say(Accept(offer=(await waiting).offer))
        await ended(person, task["id"], "processing")
        assert (await person.get(f"/api/tasks/{task['id']}"))["worker"] == other.name


# --- many at once -----------------------------------------------------------------------------------------------


async def work(maker: FakeWorker, runs: Counter[str], total: int) -> None:
    """Do what is offered until `total` tasks are done by everybody together."""
    while runs.total() < total:
        try:
            async with asyncio.timeout(0.5):
                offer = await maker.expect(Offer)
        except TimeoutError:
            continue
        await maker.say(Accept(offer=offer.offer))
        assign = await maker.expect(Assign)
        await maker.tell(assign, 50)
        await maker.deliver(assign)
        await maker.expect(ResultAck)
        runs[assign.task] += 1


async def test_p6_ten_workers_and_a_hundred_tasks_each_task_runs_once(api: Api) -> None:
    """P6, through real sockets: every task is completed, in its first attempt, with one result."""
    model, total = api.offer_model(), 100
    people = [await api.user() for _ in range(5)]
    videos = [(await person.upload_video())["id"] for person in people]
    makers = []
    for _ in range(10):
        name, token = await api.interface()
        makers.append(FakeWorker(api, name, token, model))
    await asyncio.gather(*(maker.join() for maker in makers))
    runs: Counter[str] = Counter()
    working = [asyncio.create_task(work(maker, runs, total)) for maker in makers]
    made = await asyncio.gather(*(
        person.create(model, video) for person, video in zip(people, videos, strict=True) for _ in range(total // 5)
    ))
    async with asyncio.timeout(40):
        await asyncio.gather(*working)
    assert runs == Counter({task["id"]: 1 for task in made})
    for person in people:
        tasks = (await person.get("/api/tasks?state=completed"))["items"]
        assert len(tasks) == total // 5
        assert {task["attempt"] for task in tasks} == {1}
    assert {task["worker"] for person in people for task in (await person.get("/api/tasks"))["items"]} <= {
        maker.name for maker in makers
    }
    for maker in makers:
        await maker.leave()


async def test_the_list_of_tasks_can_be_told_from_the_database_alone(api: Api) -> None:
    """An ended task is answered from the store, field by field as it was when it ended."""
    person, unknown = await api.user(), new_id()
    task = await person.create(api.offer_model())
    fine(await person("POST", f"/api/tasks/{task['id']}/cancel", b""))
    stored = await api.hub.rooms.store.get(Task, task["id"])
    assert stored is not None and stored.state == "cancelled"
    assert (await person.get("/api/tasks?limit=1"))["items"][0]["state"] == "cancelled"
    refused(await person("GET", f"/api/tasks/{unknown}"), 404, "not_found")
