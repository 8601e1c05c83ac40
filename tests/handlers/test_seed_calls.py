"""What services in the older dialect call: callbacks, heartbeats, and results that they send."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from hub.ids import new_id
from hub.interface import Interface
from tests.handlers import seed_service
from tests.handlers.running import Api, eventually, fine, one_loop
from tests.handlers.seed_service import WORD, Service, ordered, refused_too, state

hub, service = seed_service.hub, seed_service.service
pytestmark = one_loop


# --- callbacks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/tasks/callback", "/api/task/callback"])
@pytest.mark.parametrize("word", ["PROCESSING", "processing", "Processing"])
async def test_both_paths_and_any_case_without_a_lease(api: Api, service: Service, path: str, word: str) -> None:
    _, task, order = await ordered(api, service)
    fine(await service.call(order, word, path, progress="12.5"))
    assert api.hub.runner.core.tasks[task["id"]].progress == 12.5
    fine(await service.call(order, "pending", path, workerUrl=f"{service.address}/process"))


@pytest.mark.parametrize(("callback", "heartbeat"), [
    ("/api/tasks/callback/", "/api/tasks/interface/heartbeat/"),
    ("/API/Task/Callback", "/api/Tasks/Interface/Heartbeat"),
])
async def test_a_path_in_any_case_and_with_a_slash_behind_it(
    api: Api, service: Service, callback: str, heartbeat: str,
) -> None:
    _, task, order = await ordered(api, service)
    said = {"Identification": WORD, "taskId": task["id"], "status": "PROCESSING", "interfaceAddress": service.address}
    body = json.dumps(said).encode()
    for path in (f"{callback}?{urlsplit(order['callbackUrl']).query}", heartbeat):
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
        answer = await api.raw(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert answer.startswith(b"HTTP/1.1 200 "), answer


async def test_a_callback_as_a_form_and_with_what_no_text_can_hold(api: Api, service: Service) -> None:
    person, task, order = await ordered(api, service)
    path = order["callbackUrl"].removeprefix(api.hub.settings.api_base_url)
    said = {"Identification": WORD, "taskId": task["id"], "status": "PROCESSING", "progress": "30", "workerUrl": ""}
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    fine(await api("POST", path, urlencode(said).encode(), form))
    assert api.hub.runner.core.tasks[task["id"]].progress == 30
    broken = json.dumps({**said, "status": "FAILED", "message": "bad \udce4 name"}).encode("utf-8-sig")
    fine(await api("POST", path, broken, {"Content-Type": "application/json"}))
    await state(person, task, "waiting")
    assert api.hub.runner.core.tasks[task["id"]].attempts[-1].detail == "bad ? name"
    fine(await person("POST", f"/api/tasks/{task['id']}/cancel"))


async def test_a_failure_is_told_in_full(api: Api, service: Service) -> None:
    """Express took bodies of 100 KB: a service may send its whole log."""
    person, task, order = await ordered(api, service)
    fine(await service.call(order, "FAILED", message="x" * 100_000))
    await state(person, task, "waiting")
    fine(await person("POST", f"/api/tasks/{task['id']}/cancel"))


async def test_a_service_is_known_by_other_spellings_of_its_address(api: Api, service: Service) -> None:
    _, _, order = await ordered(api, service)
    here = service.address.replace("127.0.0.1", "localhost")
    before = await api.hub.rooms.store.count(Interface)
    for address in (here, f"{here}/process", f"{service.address}/process/"):
        fine(await service.call(order, "PENDING", "/api/tasks/callback", workerUrl=address))
        assert fine(await service.heartbeat(interfaceAddress=address))["message"] == "heartbeat taken"
    assert await api.hub.rooms.store.count(Interface) == before


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


@pytest.mark.parametrize("progress", [-1, 100.01, "100/100", "N/A", True, []])
async def test_no_odd_progress_loses_an_end(api: Api, service: Service, progress: Any) -> None:
    person, task, order = await ordered(api, service)
    fine(await service.call(order, "PROCESSING", progress=progress))
    fine(await service.call(order, "FAILED", progress=progress))
    await state(person, task, "waiting")
    assert api.hub.runner.core.tasks[task["id"]].attempts[-1].code == "worker_error"
    fine(await person("POST", f"/api/tasks/{task['id']}/cancel"))
    again, other, order = await ordered(api, service)
    shutil.copy(order["videoPath"], order["foregroundPath"])
    fine(await service.call(order, "COMPLETED", progress=progress))
    await state(again, other, "completed")


WRONG: list[tuple[dict[str, Any], int, str]] = [
    ({"Identification": "wrong"}, 403, "forbidden"), ({"Identification": ""}, 400, "bad_request"),
    ({"Identification": ...}, 400, "bad_request"), ({"Identification": {"$ne": None}}, 400, "bad_request"),
    ({"Identification": "ü" + WORD}, 403, "forbidden"),
    ({"taskId": ...}, 400, "bad_request"), ({"taskId": 7}, 400, "bad_request"),
    ({"taskId": "7"}, 404, "not_found"), ({"taskId": new_id()}, 404, "not_found"),
    ({"status": ...}, 400, "bad_request"), ({"status": "DONE"}, 400, "bad_request"),
    ({"status": None}, 400, "bad_request"),
    ({"workerUrl": 1}, 400, "bad_request"),
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


# --- heartbeats and results -----------------------------------------------------------------------------------


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
