"""The older dialect: services that speak nothing else register, take tasks, report, and hand over what they made."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from handlers.worker_seed import service_of
from hub.__main__ import Hub
from hub.effects import Delete, Save
from hub.ids import new_id
from hub.interface import Interface, hash_token, new_token
from hub.seed import SeedJob
from tests.handlers.running import (
    Answer, Api, Person, Place, eventually, fine, metadata, one_loop, refused, running_hub, small_video,
)
from tests.odd_media import WEBCAM, silent, write_clip

pytestmark = one_loop

WORD = "another secret of the tests"
ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def settings(**changes: str) -> dict[str, str]:
    """A hub that knows its own address, because services call it there."""
    port = str(free_port())
    return {"PORT": port, "API_BASE_URL": f"http://127.0.0.1:{port}", **changes}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hub(place: Place) -> AsyncIterator[Hub]:
    async with running_hub(place, **settings()) as running:
        yield running


# --- a service in the hands of a test ---------------------------------------------------------------------------


class Service:
    """An interface service in the older dialect: keeps its orders, answers with `reply`, says what a test says."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.model = f"model-{new_id()}"
        self.name = f"seed-{new_id()}"
        self.orders: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.reply: Callable[[dict[str, Any]], tuple[int, Any]] = lambda order: (200, {"status": "accepted"})
        self.server = HTTPServer(self.application(Process))
        sockets = bind_sockets(0, "127.0.0.1")
        self.server.add_sockets(sockets)
        self.address = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
        self.paths: list[str] = []

    def application(self, kind: type[Process]) -> Application:
        return Application([(r"/.*", kind, {"service": self})], log_function=lambda handler: None)

    async def register(self, **changes: Any) -> None:
        """What an admin does beforehand."""
        record = Interface(**{
            "id": self.name, "token_hash": hash_token(new_token()), "created_at": 0.0, "dialect": "seed",
            "address": self.address, "models": (f"{self.model}:Fine", ), **changes,
        })
        await self.api.hub.rooms.store.commit([Save(record, record.version - 1)])

    async def heartbeat(self, **changes: Any) -> Answer:
        said = {"interfaceAddress": self.address, "Identification": WORD, **changes}
        return await self.api("POST", "/api/tasks/interface/heartbeat", json_body=said)

    async def order(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            return await self.orders.get()

    async def call(self, order: dict[str, Any], status: str, /, path: str = "", **changes: Any) -> Answer:
        """A callback; to the address of the order, if no other is given."""
        said = {
            "Identification": WORD, "taskId": order["taskId"], "workerUrl": order["workerUrl"], "status": status,
            **changes,
        }
        said = {name: value for name, value in said.items() if value is not ...}
        path = path or order["callbackUrl"].removeprefix(self.api.hub.settings.api_base_url)
        return await self.api("POST", path, json_body=said)

    async def stop(self) -> None:
        self.server.stop()
        await self.server.close_all_connections()


class Process(RequestHandler):
    """The one route of a service."""

    def initialize(self, service: Service) -> None:
        self.service = service

    def post(self) -> None:
        order = json.loads(self.request.body)
        self.service.paths.append(self.request.path)
        status, answer = self.service.reply(order)
        self.set_status(status)
        self.write(answer)
        self.service.orders.put_nowait(order)


@asynccontextmanager
async def present(api: Api, **changes: Any) -> AsyncIterator[Service]:
    """A registered service that has just sent a heartbeat."""
    service = Service(api)
    await service.register(**changes)
    fine(await service.heartbeat())
    try:
        yield service
    finally:
        if (session := api.hub.runner.core.session_of(service.name)) is not None:
            api.hub.rooms.registry.dismiss(session, "the test is over")
        await service.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def service(api: Api) -> AsyncIterator[Service]:
    async with present(api) as service:
        yield service


async def state(person: Person, task: dict[str, Any], wanted: str) -> dict[str, Any]:
    """The task, once it is in that state."""
    async with asyncio.timeout(20):
        while (seen := await person.get(f"/api/tasks/{task['id']}"))["state"] != wanted:
            await asyncio.sleep(0.02)
    found: dict[str, Any] = seen
    return found


async def ordered(api: Api, service: Service, **fields: Any) -> tuple[Person, dict[str, Any], dict[str, Any]]:
    """A user, a task of theirs, and the order that the service got for it."""
    person = await api.user()
    task = await person.create(service.model, **fields)
    order = await service.order()
    await eventually(lambda: all(job.taken.is_set() for job in jobs(api, service).values()))
    return person, task, order


def jobs(api: Api, service: Service) -> dict[str, Any]:
    found = service_of(api.hub.rooms, service.name)
    return found.jobs if found is not None else {}


# --- a whole task -----------------------------------------------------------------------------------------------


async def test_the_order_has_all_that_the_dialect_says(api: Api, service: Service) -> None:
    person = await api.user()
    background = await person.upload_background()
    task = await person.create(service.model, background_id=background["id"])
    order = await service.order()
    assert order.keys() == {
        "taskId", "videoPath", "foregroundPath", "backgroundPath", "modelName", "modelAlias", "callbackUrl",
        "workerUrl", "videoUrl", "backgroundUrl", "resultUploadUrl",
    }
    assert service.paths == ["/process"]
    assert (order["taskId"], order["modelName"], order["modelAlias"]) == (task["id"], service.model, "Fine")
    assert order["workerUrl"] == service.address
    assert Path(order["videoPath"]).read_bytes() == small_video()
    assert Path(order["videoPath"]).suffix == ".mp4" and Path(order["backgroundPath"]).suffix == ".jpg"
    assert Path(order["foregroundPath"]).parent.is_dir() and not Path(order["foregroundPath"]).exists()
    base = api.hub.settings.api_base_url
    video = fine_bytes(await api("GET", order["videoUrl"].removeprefix(base)))
    assert video == small_video()
    assert len(fine_bytes(await api("GET", order["backgroundUrl"].removeprefix(base)))) == background["size"]


def fine_bytes(answer: Answer) -> bytes:
    assert answer.status == 200, answer.body[:300]
    return answer.body


async def test_a_task_by_the_shared_folder(api: Api, service: Service) -> None:
    """P19 holds for the older dialect too: what was named is taken, decoded and compared."""
    service.reply = lambda order: (200, {"status": "accepted", "compositeVideoPath": beside(order, "made.mp4")})
    person, task, order = await ordered(api, service)
    assert (await person.get(f"/api/tasks/{task['id']}"))["worker"] == service.name
    assert fine(await service.call(order, "Processing", progress=40, message="half"))["success"] is True
    await eventually(lambda: api.hub.runner.core.tasks[task["id"]].progress == 40)
    shutil.copy(order["videoPath"], beside(order, "made.mp4"))
    assert fine(await service.call(order, "completed", progress=100)) == {"success": True, "message": "callback taken"}
    done = await state(person, task, "completed")
    assert fine_bytes(await api("GET", done["result"]["video"]["url"])) == small_video()
    await eventually(lambda: not jobs(api, service) and not Path(order["foregroundPath"]).parent.exists())
    assert await api.hub.rooms.store.count(SeedJob, worker=service.name) == 0
    assert fine_bytes(await person("GET", done["video"]["content_url"])) == small_video()  # its name was a link


def beside(order: dict[str, Any], name: str) -> str:
    return str(Path(order["foregroundPath"]).parent / name)


async def test_a_result_in_the_place_that_was_offered(api: Api, service: Service) -> None:
    person, task, order = await ordered(api, service)
    shutil.copy(order["videoPath"], order["foregroundPath"])
    fine(await service.call(order, "COMPLETED"))
    await state(person, task, "completed")


UPLOADS: list[tuple[str, Callable[[bytes], tuple[bytes, dict[str, str]]]]] = [
    ("raw", lambda data: (data, {"Content-Type": "video/mp4"})),
    ("form", lambda data: (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="r.mp4"\r\n\r\n' + data + b"\r\n--x--\r\n",
        {"Content-Type": "multipart/form-data; boundary=x"},
    )),
    ("tus", lambda data: (data, {
        "Tus-Resumable": "1.0.0", "Upload-Length": str(len(data)), "Upload-Metadata": metadata(purpose="result"),
        "Content-Type": "application/offset+octet-stream",
    })),
]


@pytest.mark.parametrize(("way", "made"), UPLOADS, ids=[way for way, _ in UPLOADS])
async def test_a_task_by_urls(
    api: Api, service: Service, way: str, made: Callable[[bytes], tuple[bytes, dict[str, str]]],
) -> None:
    service.reply = lambda order: (200, {"status": "accepted", "compositeVideoPath": "/on/my/own/disk.mp4"})
    person, task, order = await ordered(api, service)
    body, headers = made(small_video())
    path = order["resultUploadUrl"].removeprefix(api.hub.settings.api_base_url)
    assert fine(await api("POST", path, body, headers), 201)["size"] == len(small_video())
    fine(await service.call(order, "COMPLETED"))
    await state(person, task, "completed")
    refused_too(await api("POST", path, body, headers), 409, "lease_lost")


async def test_a_mask_stands_beside_the_result_or_is_left_out(api: Api, service: Service, tmp_path: Path) -> None:
    """A mask has no sound; one that cannot be shown does not spoil the task."""
    loud = tmp_path / "loud.mp4"
    write_clip(loud, audio="aac")
    service.reply = lambda order: (200, {
        "status": "accepted", "compositeVideoPath": order["foregroundPath"], "maskVideoPath": beside(order, "mask.mp4"),
    })
    for mask, expected in ((silent().read_bytes(), {"video", "mask"}), (b"no video at all", {"video"})):
        person = await api.user()
        video = fine(await person.upload(loud.read_bytes()), 201)
        assert video["has_audio"]
        task = await person.create(service.model, video["id"])
        order = await service.order()
        shutil.copy(loud, order["foregroundPath"])
        Path(beside(order, "mask.mp4")).write_bytes(mask)
        fine(await service.call(order, "COMPLETED"))
        assert (await state(person, task, "completed"))["result"].keys() == expected


async def test_a_service_that_works_before_it_answers(api: Api, service: Service) -> None:
    """Some do everything within the POST: the callbacks come before the word that the task is taken."""
    person = await api.user()
    held: dict[str, Any] = {}

    async def work(order: dict[str, Any]) -> None:
        shutil.copy(order["videoPath"], order["foregroundPath"])
        held["answers"] = [await service.call(order, word) for word in ("PENDING", "PROCESSING", "COMPLETED")]

    class Slow(Process):
        async def post(self) -> None:  # type: ignore[override]
            await work(json.loads(self.request.body))
            super().post()

    service.server.request_callback = service.application(Slow)
    task = await person.create(service.model)
    await service.order()
    await state(person, task, "completed")
    assert [answer.status for answer in held["answers"]] == [200, 200, 200]


# --- who takes it, and who does not -----------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "answer"), [
    (200, {"status": "fail", "message": "no GPU is free"}), (200, {"status": "FAIL"}), (200, "text"), (200, {}),
    (500, {"status": "accepted"}), (202, {"status": "accepted"}), (302, ""), (200, "[" * 100_000),
])
async def test_a_refused_task_waits_again(api: Api, service: Service, status: int, answer: Any) -> None:
    service.reply = lambda order: (status, answer)
    person = await api.user()
    task = await person.create(service.model)
    await service.order()
    await state(person, task, "waiting")
    assert api.hub.runner.core.tasks[task["id"]].attempts[-1].code == "refused"
    assert not jobs(api, service)
    fine(await person("POST", f"/api/tasks/{task['id']}/cancel"))


async def test_a_service_that_is_not_there_does_not_get_it(api: Api, service: Service) -> None:
    await service.stop()
    person = await api.user()
    task = await person.create(service.model)
    await eventually(lambda: bool(api.hub.runner.core.tasks[task["id"]].attempts))
    assert "not reached" in api.hub.runner.core.tasks[task["id"]].attempts[-1].detail
    fine(await person("POST", f"/api/tasks/{task['id']}/cancel"))


async def test_redirects_are_not_followed(api: Api, service: Service) -> None:
    """P16: a service that sends the hub elsewhere has refused."""
    other = Service(api)

    class Elsewhere(Process):
        def post(self) -> None:
            super().post()
            self.clear()
            self.redirect(other.address, status=307)

    service.server.request_callback = service.application(Elsewhere)
    person = await api.user()
    task = await person.create(service.model)
    await service.order()
    await state(person, task, "waiting")
    assert other.orders.empty() and not other.paths
    fine(await person("POST", f"/api/tasks/{task['id']}/cancel"))
    await other.stop()


async def test_slots_are_kept(api: Api) -> None:
    async with present(api, slots=2) as service:
        person = await api.user()
        video = (await person.upload_video())["id"]
        tasks = [await person.create(service.model, video) for _ in range(3)]
        orders = [await service.order() for _ in range(2)]
        assert (await person.get(f"/api/tasks/{tasks[2]['id']}"))["state"] == "waiting"
        fine(await service.call(orders[0], "FAILED", message="no luck"))
        assert (await service.order())["taskId"] == tasks[2]["id"]


# --- callbacks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/tasks/callback", "/api/task/callback"])
@pytest.mark.parametrize("word", ["PROCESSING", "processing", "Processing"])
async def test_both_paths_and_any_case_without_a_lease(api: Api, service: Service, path: str, word: str) -> None:
    _, task, order = await ordered(api, service)
    fine(await service.call(order, word, path, progress="12.5"))
    assert api.hub.runner.core.tasks[task["id"]].progress == 12.5
    fine(await service.call(order, "pending", path, workerUrl=f"{service.address}/process"))


async def test_a_failure_is_tried_again(api: Api, service: Service) -> None:
    person, task, order = await ordered(api, service)
    fine(await service.call(order, "Failed", message="out\nof memory"))
    await state(person, task, "waiting")
    attempt = api.hub.runner.core.tasks[task["id"]].attempts[-1]
    assert (attempt.code, attempt.detail) == ("worker_error", "out of memory")
    fine(await service.call(order, "FAILED"))  # once more is harmless
    refused_too(await service.call(order, "COMPLETED"), 409, "lease_lost")
    refused_too(await service.call(order, "PROCESSING", "/api/tasks/callback"), 409, "lease_lost")
    fine(await person("POST", f"/api/tasks/{task['id']}/cancel"))


def refused_too(answer: Answer, status: int, code: str) -> None:
    """A problem, with what old services look at beside its own fields."""
    problem = answer.json
    assert (problem.pop("success"), problem.pop("message")) == (False, problem["detail"])
    refused(Answer(answer.status, answer.headers, json.dumps(problem).encode()), status, code)


WRONG: list[tuple[dict[str, Any], int, str]] = [
    ({"Identification": "wrong"}, 403, "forbidden"), ({"Identification": ""}, 400, "bad_request"),
    ({"Identification": ...}, 400, "bad_request"), ({"Identification": {"$ne": None}}, 400, "bad_request"),
    ({"Identification": "ü" + WORD}, 403, "forbidden"),
    ({"taskId": ...}, 400, "bad_request"), ({"taskId": 7}, 400, "bad_request"),
    ({"taskId": "7"}, 404, "not_found"), ({"taskId": new_id()}, 404, "not_found"),
    ({"status": ...}, 400, "bad_request"), ({"status": "DONE"}, 400, "bad_request"),
    ({"status": None}, 400, "bad_request"),
    ({"progress": "far"}, 400, "bad_request"), ({"progress": 101}, 400, "bad_request"),
    ({"progress": -1}, 400, "bad_request"), ({"progress": True}, 400, "bad_request"),
    ({"progress": "NaN"}, 400, "bad_request"), ({"workerUrl": 1}, 400, "bad_request"),
]


@pytest.mark.parametrize(("changes", "status", "code"), WRONG)
async def test_what_is_wrong_with_a_callback(
    api: Api, service: Service, changes: dict[str, Any], status: int, code: str,
) -> None:
    _, task, order = await ordered(api, service)
    before = api.hub.runner.core.tasks[task["id"]]
    refused_too(await service.call(order, "PROCESSING", **changes), status, code)
    assert api.hub.runner.core.tasks[task["id"]].progress == before.progress


async def test_a_callback_without_a_lease_names_the_service_that_has_the_task(api: Api, service: Service) -> None:
    _, task, order = await ordered(api, service)
    path = "/api/tasks/callback"
    refused_too(await service.call(order, "FAILED", path, workerUrl="http://127.0.0.1:1"), 409, "lease_lost")
    refused_too(await service.call(order, "FAILED", path, workerUrl=...), 400, "bad_request")
    refused_too(await service.call(order, "FAILED", f"{path}?lease=made.up"), 401, "job_token_invalid")
    assert api.hub.runner.core.tasks[task["id"]].lease is not None


async def test_p6_a_late_callback_of_an_older_attempt_changes_nothing(api: Api, service: Service) -> None:
    person, task, first = await ordered(api, service)
    shutil.copy(first["videoPath"], first["foregroundPath"])
    session = api.hub.runner.core.session_of(service.name)
    assert session is not None
    api.hub.rooms.registry.dismiss(session, "away")
    await state(person, task, "waiting")
    fine(await service.heartbeat())
    second = await service.order()
    assert second["taskId"] == first["taskId"] and second["callbackUrl"] != first["callbackUrl"]
    lease = api.hub.runner.core.tasks[task["id"]].lease
    for word in ("PENDING", "PROCESSING", "COMPLETED", "FAILED"):
        refused_too(await service.call(first, word, progress=99), 409, "lease_lost")
    now = api.hub.runner.core.tasks[task["id"]]
    assert now.lease is not None and lease is not None and (now.lease.id, now.progress) == (lease.id, 0)
    shutil.copy(second["videoPath"], second["foregroundPath"])
    fine(await service.call(second, "COMPLETED"))
    await state(person, task, "completed")
    fine(await service.call(second, "COMPLETED"))
    fine(await service.call(second, "COMPLETED", "/api/tasks/callback"))
    refused_too(await service.call(second, "FAILED"), 409, "lease_lost")
    refused_too(await service.call(first, "COMPLETED"), 409, "lease_lost")


async def test_a_cancelled_task_takes_no_result(api: Api, service: Service) -> None:
    """P7: after 200 to a cancel no result is accepted."""
    person, task, order = await ordered(api, service)
    fine(await person("POST", f"/api/tasks/{task['id']}/cancel"))
    await eventually(lambda: not Path(order["videoPath"]).exists())
    refused_too(await service.call(order, "COMPLETED"), 409, "lease_lost")
    assert (await person.get(f"/api/tasks/{task['id']}"))["state"] == "cancelled"


# --- files ------------------------------------------------------------------------------------------------------


async def not_taken(api: Api, service: Service, path: Callable[[dict[str, Any]], str]) -> str:
    """What becomes of a task whose service names such a result."""
    service.reply = lambda order: (200, {"status": "accepted", "compositeVideoPath": path(order)})
    person, task, order = await ordered(api, service)
    fine(await service.call(order, "COMPLETED"))
    await eventually(lambda: bool(api.hub.runner.core.tasks[task["id"]].attempts))
    attempt = api.hub.runner.core.tasks[task["id"]].attempts[-1]
    fine(await person("POST", f"/api/tasks/{task['id']}/cancel"))
    return f"{attempt.code}: {attempt.detail}"


async def test_p16_results_are_taken_from_inside_the_shared_folder_only(
    api: Api, service: Service, tmp_path: Path,
) -> None:
    outside = tmp_path / "outside.mp4"
    outside.write_bytes(small_video())
    root = Path(api.hub.settings.output_dir)
    down = "/.." * (len(root.parts) + 3)
    assert "not in the shared folder" in await not_taken(api, service, lambda order: str(outside))
    assert "not in the shared folder" in await not_taken(api, service, lambda order: f"{root}/jobs{down}{outside}")
    assert "not an absolute path" in await not_taken(api, service, lambda order: "jobs/result.mp4")
    assert "not there" in await not_taken(api, service, lambda order: str(root / "nothing.mp4"))
    assert "not there" in await not_taken(api, service, lambda order: str(root) + "/" + "a" * 3000)
    assert "no regular file" in await not_taken(api, service, lambda order: str(root))


async def test_p16_no_link_and_no_pipe_leads_out(api: Api, service: Service, tmp_path: Path) -> None:
    outside = tmp_path / "outside.mp4"
    outside.write_bytes(small_video())

    def linked(order: dict[str, Any]) -> str:
        Path(order["foregroundPath"]).symlink_to(outside)
        return str(order["foregroundPath"])

    def through_a_folder(order: dict[str, Any]) -> str:
        Path(beside(order, "folder")).symlink_to(tmp_path)
        return beside(order, "folder/outside.mp4")

    def pipe(order: dict[str, Any]) -> str:
        os.mkfifo(order["foregroundPath"])
        return str(order["foregroundPath"])

    assert "not in the shared folder" in await not_taken(api, service, linked)
    assert "not in the shared folder" in await not_taken(api, service, through_a_folder)
    assert "no regular file" in await not_taken(api, service, pipe)


async def test_p16_another_users_result_is_not_a_result(api: Api, service: Service) -> None:
    """The hub's own files lie in the shared folder by default: no service can have one of them taken as its own."""
    person, task, order = await ordered(api, service)
    shutil.copy(order["videoPath"], order["foregroundPath"])
    fine(await service.call(order, "COMPLETED"))
    sha256 = (await state(person, task, "completed"))["result"]["video"]["sha256"]
    [kept] = [path for path in Path(api.hub.settings.output_dir).rglob(sha256)]
    assert "not in the shared folder" in await not_taken(api, service, lambda order: str(kept))


async def test_a_link_within_the_shared_folder_is_fine(api: Api, service: Service) -> None:
    person, task, order = await ordered(api, service)
    shutil.copy(order["videoPath"], beside(order, "real.mp4"))
    Path(order["foregroundPath"]).symlink_to("real.mp4")
    fine(await service.call(order, "COMPLETED"))
    await state(person, task, "completed")


async def test_p19_what_is_no_video_is_no_result(api: Api, service: Service) -> None:
    _, task, order = await ordered(api, service)
    Path(order["foregroundPath"]).write_text("this is no video")
    fine(await service.call(order, "COMPLETED"))
    await eventually(lambda: bool(api.hub.runner.core.tasks[task["id"]].attempts))
    assert api.hub.runner.core.tasks[task["id"]].attempts[-1].code == "result_not_playable"


@pytest.mark.parametrize(("query", "headers", "status", "code"), [
    ("", {}, 401, "job_token_invalid"), ("?job=a.b", {}, 401, "job_token_invalid"),
    ("?job={job}&purpose=video", {}, 400, "bad_metadata"),
    ("?job={job}", {"Content-Type": "multipart/form-data; boundary=x"}, 400, "bad_multipart"),
])
async def test_what_is_wrong_with_an_upload(
    api: Api, service: Service, query: str, headers: dict[str, str], status: int, code: str,
) -> None:
    _, _, order = await ordered(api, service)
    job = urlsplit(order["resultUploadUrl"]).query.removeprefix("job=")
    async with api.unchanged():
        refused_too(await api("POST", f"/api/tasks/result{query.format(job=job)}", b"x", headers), status, code)


async def test_p4_a_result_that_is_too_large_is_refused_before_it_comes(api: Api, service: Service) -> None:
    _, _, order = await ordered(api, service)
    path = order["resultUploadUrl"].removeprefix(api.hub.settings.api_base_url)
    answer = await api.raw(
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\nConnection: close\r\n\r\n".encode()
        + b"x" * ((1 << 20) + 1),
    )
    assert answer.startswith(b"HTTP/1.1 413 ") and b'"too_large"' in answer


# --- presence ---------------------------------------------------------------------------------------------------


async def test_an_unknown_service_waits_for_an_admin(api: Api) -> None:
    service = Service(api)
    assert "admin" in fine(await service.heartbeat(interfaceAddress=service.address.upper() + "/"))["message"]
    record = await api.hub.rooms.store.find(Interface, address=service.address)
    assert record is not None and record.pending and record.dialect == "seed"
    assert re.fullmatch(r"127-0-0-1-\d+", record.id)
    fine(await service.heartbeat())
    assert await api.hub.rooms.store.count(Interface, address=service.address) == 1
    assert api.hub.runner.core.session_of(record.id) is None
    service.name = record.id
    await service.register(pending=False, version=2)
    fine(await service.heartbeat())
    assert api.hub.runner.core.session_of(record.id) is not None
    await service.stop()


@pytest.mark.parametrize(("changes", "status"), [
    ({"Identification": "wrong"}, 403), ({"Identification": None}, 400), ({"interfaceAddress": None}, 400),
    ({"interfaceAddress": "file:///etc/passwd"}, 400), ({"interfaceAddress": "http://169.254.169.254"}, 400),
    ({"interfaceAddress": "http://2130706433:80"}, 400), ({"interfaceAddress": "nonsense"}, 400),
])
async def test_what_is_wrong_with_a_heartbeat(api: Api, changes: dict[str, Any], status: int) -> None:
    service = Service(api)
    before = await api.hub.rooms.store.count(Interface)
    answer = await service.heartbeat(**changes)
    refused_too(answer, status, "forbidden" if status == 403 else "bad_request")
    assert await api.hub.rooms.store.count(Interface) == before
    await service.stop()


async def test_a_heartbeat_that_is_no_object(api: Api) -> None:
    refused_too(await api("POST", "/api/tasks/interface/heartbeat", json_body=[]), 400, "bad_request")
    sent = {"Content-Type": "application/json"}
    refused_too(await api("POST", "/api/tasks/interface/heartbeat", b"{", sent), 400, "bad_json")


async def test_services_are_let_in_by_themselves_where_the_settings_say_so(place: Place) -> None:
    changes = settings(AUTO_REGISTER_INTERFACES="true", INTERFACE_MODELS="matting:Fine matting,other")
    async with running_hub(place, **changes) as hub:
        api = Api(hub, place.folder)
        service = Service(api)
        service.model = "matting"
        fine(await service.heartbeat())
        person = await api.user()
        assert {model["name"]: model["alias"] for model in (await person.get("/api/models"))["items"]} == {
            "matting": "Fine matting", "other": "",
        }
        _, _, order = await ordered(api, service)
        assert order["modelAlias"] == "Fine matting"
        await service.stop()
        api.close()


async def test_a_silent_service_is_offline_and_its_task_is_free(place: Place) -> None:
    """P5: a service that is silent for HEARTBEAT_TIMEOUT loses its task, and until then it keeps it."""
    changes = settings(HEARTBEAT_TIMEOUT="0.05", LEASE_SECONDS="1", HEARTBEAT_SECONDS="0.9")
    async with running_hub(place, **changes) as hub:
        api = Api(hub, place.folder)
        service = Service(api)
        await service.register()
        fine(await service.heartbeat())
        person, task, order = await ordered(api, service)
        began = hub.rooms.clock.now()
        async with asyncio.timeout(20):
            while hub.runner.core.session_of(service.name) is not None:
                assert task["id"] in hub.runner.core.tasks
                await asyncio.sleep(0.05)
        assert hub.rooms.clock.now() - began > 2.5  # the lease alone would have ended long before
        assert (await state(person, task, "waiting"))["blocked_by"] == "no_worker_for_model"
        refused_too(await service.call(order, "COMPLETED"), 409, "lease_lost")
        fine(await service.heartbeat())
        assert (await service.order())["taskId"] == task["id"]
        await service.stop()
        api.close()


async def test_p15_a_hub_that_starts_anew_knows_what_was_in_hand(place: Place) -> None:
    changes = settings()
    async with running_hub(place, **changes) as hub:
        api = Api(hub, place.folder)
        service = Service(api)
        service.reply = lambda order: (200, {"status": "accepted", "compositeVideoPath": beside(order, "made.mp4")})
        await service.register()
        fine(await service.heartbeat())
        person, task, order = await ordered(api, service)
        shutil.copy(order["videoPath"], beside(order, "made.mp4"))
        await hub.stop()
        again = Hub(hub.settings, hub.store)
        await again.start()
        api.hub = again
        fine(await service.call(order, "COMPLETED"))
        await state(person, task, "completed")
        await again.stop()
        await service.stop()
        api.close()


# --- the example ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", ["yes", "no"])
@pytest.mark.media
async def test_the_example_service_completes_real_tasks(api: Api, shared: str) -> None:
    example = ROOT / "docs" / "examples" / "seed_service.py"
    assert len(example.read_text().splitlines()) <= 80
    address, model = f"http://127.0.0.1:{free_port()}", "mediapipe-selfie"
    record = Interface(
        f"example-{shared}", hash_token(new_token()), 0.0, dialect="seed", address=address, models=(model,),
        path="/api/video/segment",
    )
    await api.hub.rooms.store.commit([Save(record, 0)])
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(example), address, cwd=ROOT, stderr=asyncio.subprocess.DEVNULL,
        env={
            **os.environ, "PYTHONPATH": ".", "HUB_URL": api.hub.url, "INTERFACE_IDENTIFICATION": WORD, "SHARED": shared,
        },
    )
    try:
        await eventually(lambda: model in api.hub.runner.core.models, 30)
        person = await api.user()
        video = fine(await person.upload(WEBCAM.read_bytes()), 201)
        background = await person.upload_background()
        task = await person.create(model, video["id"], background_id=background["id"])
        async with asyncio.timeout(100):
            while (done := await person.get(f"/api/tasks/{task['id']}"))["state"] in ("waiting", "processing"):
                await asyncio.sleep(0.1)
        assert (done["state"], done["result"]["video"]["frames"]) == ("completed", video["frames"]), done
    finally:
        process.terminate()
        await process.wait()
        await api.hub.rooms.store.commit([Delete(Interface, record.id)])
        await eventually(lambda: api.hub.runner.core.session_of(record.id) is None)
