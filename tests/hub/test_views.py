"""Views: the JSON of the contract, and signed addresses that browsers can cache."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from msgspec.structs import replace

from hub import views
from hub.clock import rfc3339
from hub.interface import OfferedModel
from hub.links import Links
from hub.media import Facts, Media, Purpose
from hub.outlook import Outlook
from hub.task import Output, Problem, Source, State, drop_results
from hub.views import LINK_LIFE_S, LINK_STEP_S, Views

from .world import FACTS, SHA, START, a_result, a_task

WALL = START + 10
LINKS = Links(b"a secret of thirty-two characters", "https://hub.example")


@pytest.fixture
def viewed() -> Views:
    return Views(LINKS.sign, "videos", "backgrounds")


def opens(url: str, path: str, now: float = WALL) -> bool:
    """Whether a URL is on the hub, for that path, and signed by it; raises where the signature does not hold."""
    parts = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    LINKS.verify(path, query["expires"], query["signature"], now)
    return parts.netloc == "hub.example" and (parts.path == path or parts.path.startswith(f"{path}/"))


def test_a_waiting_task_has_every_field_of_the_contract(viewed: Views) -> None:
    view = viewed.task(a_task(options={"color": "#fff"}, priority=2), WALL, Outlook(blocked_by="all_busy"), "e:1")
    video = view.pop("video")
    assert view == {
        "id": "task-1", "state": "waiting", "phase": None, "progress": 0.0, "message": "", "attempt": 0, "version": 1,
        "model": "m", "background": None, "options": {"color": "#fff"}, "priority": 2, "position": None, "eta": None,
        "blocked_by": "all_busy", "worker": None, "result": None, "result_expires_at": None,
        "result_gone": None, "problem": None, "cursor": "e:1",
        "created_at": "2023-11-14T22:13:20.000Z", "started_at": None, "ended_at": None,
    }
    assert opens(video.pop("content_url"), "/videos/video-1") and opens(video.pop("poster_url"), "/posters/video-1")
    assert video == {
        "id": "video-1", "name": "holiday.mov", "size": 1000, "width": 640, "height": 360, "fps": "30000/1001",
        "frames": 72, "duration": 2.4, "rotation": 0, "codec": "h264", "has_audio": True,
        "variable_frame_rate": False,
    }


def test_a_result_says_until_when_it_is_kept_and_why_it_is_gone() -> None:
    kept = Views(LINKS.sign, "videos", "backgrounds", keep_s=86400)
    done = a_task(
        state=State.COMPLETED, outputs=(Output("m1", "result", "r.mp4", 9, SHA, 72),), ended_at=START, version=4,
    )
    view = kept.task(done, WALL, Outlook(), "e:9")
    assert view["result"] and view["result_expires_at"] == rfc3339(START + 86400) and view["result_gone"] is None
    gone = kept.task(drop_results(done, START + 90000), WALL, Outlook(), "e:9")
    assert (gone["state"], gone["result"], gone["result_expires_at"], gone["version"]) == ("completed", None, None, 5)
    assert gone["result_gone"] == {"reason": "expired", "at": rfc3339(START + 90000)}
    assert Views(LINKS.sign, "v", "b").task(done, WALL, Outlook(), "e:9")["result_expires_at"] is None


def test_a_background_is_served_from_its_own_folder(viewed: Views) -> None:
    still = Source("still-1", "beach.jpg", 5, SHA, "image/jpeg", Facts(10, 10))
    view = viewed.task(a_task(background=still), WALL, Outlook(), "e:1")
    assert opens(view["background"]["content_url"], "/backgrounds/still-1")
    assert (view["background"]["frames"], view["background"]["has_audio"]) == (1, False)


def test_a_completed_task_shows_its_results(viewed: Views) -> None:
    outputs = (Output("m1", "result", "r 片.mp4", 9, SHA, 72), Output("m2", "mask", "k.mp4", 3, SHA, 72))
    done = a_task(state=State.COMPLETED, outputs=outputs, worker="w1", started_at=START, ended_at=START + 5)
    view = viewed.task(done, WALL, Outlook(), "e:9")
    assert set(view["result"]) == {"video", "mask"}
    video = view["result"]["video"]
    assert (video["name"], video["size"], video["sha256"], video["frames"]) == ("r 片.mp4", 9, SHA, 72)
    assert opens(video["url"], "/output/task-1")
    assert unquote(urlsplit(video["url"]).path).endswith("/r 片.mp4")
    assert video["download_url"] == f"{video['url']}&download=1"
    assert (view["worker"], view["ended_at"]) == ("w1", "2023-11-14T22:13:25.000Z")


def test_a_failed_task_says_why(viewed: Views) -> None:
    view = viewed.task(a_task(state=State.FAILED, problem=Problem("no_person", "nobody")), WALL, Outlook(), "e:1")
    assert view["problem"] == {"code": "no_person", "detail": "nobody"}


def test_nothing_of_the_inside_gets_out(viewed: Views) -> None:
    secret: dict[str, Any] = {"request_key": "my-key", "request_hash": "my-hash"}
    text = str(viewed.task(a_task(**secret), WALL, Outlook(), "e:1"))
    text += str(viewed.media(a_result(purpose=Purpose.VIDEO), WALL))
    assert not any(word in text for word in ("my-key", "my-hash", "'ann'", "lease", "attempts", "not_before"))


def test_media_are_checked_until_they_have_facts(viewed: Views) -> None:
    record = Media("v1", "ann", Purpose.VIDEO, "a.mp4", "video/mp4", 9, SHA, "b" * 32, FACTS, START)
    view = viewed.media(record, WALL)
    assert (view["state"], view["width"], view["has_audio"], view["md5"]) == ("ready", 640, True, "b" * 32)
    assert opens(view["content_url"], "/videos/v1") and opens(view["strip_url"], "/posters/v1/strip")
    assert viewed.media(replace(record, purpose=Purpose.BACKGROUND), WALL)["strip_url"] is None
    waiting = viewed.media(replace(record, facts=None), WALL)
    assert (waiting["state"], waiting["width"], waiting["has_audio"]) == ("checking", None, None)


def test_a_link_stays_the_same_for_up_to_an_hour_and_lives_for_half_a_day(viewed: Views) -> None:
    step = START // LINK_STEP_S * LINK_STEP_S
    first, last, next_one = (viewed.link("/videos/v1", "a.mp4", wall) for wall in (step, step + 3599, step + 3600))
    assert first == last != next_one
    assert opens(first, "/videos/v1", step + LINK_LIFE_S)
    with pytest.raises(Exception, match="expired"):
        opens(first, "/videos/v1", step + LINK_STEP_S + LINK_LIFE_S)


@pytest.mark.parametrize("name", ["a b.mp4", "片.mp4", "a?b=c&d", "a#b", "100%.mp4", "a/b", "..", '"><script>'])
def test_whatever_a_file_is_called_its_link_leads_to_it(viewed: Views, name: str) -> None:
    url = viewed.link("/videos/v1", name, WALL)
    assert opens(url, "/videos/v1")
    assert urlsplit(url).path.count("/") == 3 and unquote(urlsplit(url).path) == f"/videos/v1/{name}"
    assert not set(url) & set('"<> ')


def test_a_progress_event_carries_only_what_changes() -> None:
    task = a_task(state=State.PROCESSING, attempt=1, phase="encode", progress=33.333333, message="frame 24", version=7)
    assert views.progressed(task) == {
        "id": "task-1", "attempt": 1, "version": 7, "phase": "encode", "progress": 33.33, "message": "frame 24",
    }


def test_p18_what_is_not_known_of_a_model_is_null() -> None:
    assert views.model(OfferedModel("m", "Magic", "for people"), 2, None) == {
        "name": "m", "alias": "Magic", "description": "for people", "workers_ready": 2,
        "seconds_per_megapixel_frame": None, "max_pixels": None, "max_frames": None,
    }
