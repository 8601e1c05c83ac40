"""A video element seeks in a file of a gigabyte."""

from __future__ import annotations

import json
import struct
import urllib.request
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.browser.conftest import HubProcess, Screens

pytestmark = pytest.mark.browser

GAP = 1024 * 1024 * 1024
RATE, SECONDS = 10, 20
SEEK = """async ([url, second]) => {
    const video = document.createElement("video");
    video.muted = true;
    video.preload = "auto";
    document.body.append(video);
    const happened = (...names) => new Promise((resolve, reject) => {
        names.forEach(name => video.addEventListener(name, resolve, {once: true}));
        video.addEventListener("error", () => reject(video.error?.message), {once: true});
    });
    let next = happened("loadeddata");
    video.src = url;
    await next;
    next = happened("seeked");
    video.currentTime = second;
    await next;
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 1;
    const context = canvas.getContext("2d");
    context.drawImage(video, 0, 0, 1, 1);
    const color = [...context.getImageData(0, 0, 1, 1).data];
    const length = video.duration;
    video.remove();
    return {color, length};
}"""


def red_then_blue(path: Path) -> bytes:
    """An MP4 whose first half is red and whose second half is blue."""
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=RATE, options={"g": str(RATE), "bf": "0"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for index in range(RATE * SECONDS):
            color = (255, 0, 0) if index < RATE * SECONDS // 2 else (0, 0, 255)
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), color, np.uint8), format="rgb24")
            frame.pts = index
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path.read_bytes()


def with_a_gap(clip: bytes, path: Path) -> None:
    """Write `clip` with a gigabyte of nothing between the bytes of its halves; the index comes last.

    The samples of the second half are there a second time, after the gap, in a chunk of their own (ISO/IEC 14496-12:
    stsz holds the samples' sizes, stsc how many are in a chunk, stco where the chunks are).
    """
    begin = clip.index(b"moov") - 4
    media, moov = clip[:begin], bytearray(clip[begin:])
    sizes, chunks, offsets = (moov.index(name) + 8 for name in (b"stsz", b"stsc", b"stco"))
    same, count = struct.unpack_from(">II", moov, sizes)
    assert same == 0 and count == RATE * SECONDS and moov[offsets:offsets + 4] == b"\0\0\0\1"
    samples = struct.unpack_from(f">{count}I", moov, sizes + 8)
    first = int.from_bytes(moov[offsets + 4:offsets + 8])
    half = first + sum(samples[:count // 2])
    second = clip[half:half + sum(samples[count // 2:])]
    struct.pack_into(">I", moov, chunks + 8, count // 2)
    struct.pack_into(">I", moov, offsets, 2)
    moov[offsets + 8:offsets + 8] = struct.pack(">I", len(media) + GAP + 8)
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stco"):
        at = moov.index(name) - 4
        struct.pack_into(">I", moov, at, int.from_bytes(moov[at:at + 4]) + 4)
    with path.open("wb") as out:
        out.write(media + struct.pack(">I4s", GAP, b"free"))
        out.seek(len(media) + GAP)
        out.write(struct.pack(">I4s", len(second) + 8, b"mdat") + second + moov)


def call(hub: HubProcess, path: str, body: bytes, kind: str, token: str = "") -> Any:
    request = urllib.request.Request(hub.url + path, body, {"Content-Type": kind, "Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


@pytest.fixture(scope="module")
def video(hub: HubProcess, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A video in the hub, whose bytes on the disk are then given the gap: how it is served is what is looked at."""
    clip = red_then_blue(tmp_path_factory.mktemp("clip") / "clip.mp4")
    account = json.dumps({"email": "seeker@example.org", "password": "a sentence that works well"}).encode()
    token = call(hub, "/api/auth/register", account, "application/json")["token"]
    video: dict[str, Any] = call(hub, "/api/videos?name=long.mp4", clip, "video/mp4", token)
    [path] = [path for path in hub.folder.rglob(video["sha256"]) if path.is_file()]
    with_a_gap(clip, path)
    assert path.stat().st_size > GAP
    return video


async def test_a_video_element_seeks_in_a_gigabyte(screens: Screens, video: dict[str, Any]) -> None:
    page = await screens.open()
    for second, color in ((15, (0, 0, 255)), (5, (255, 0, 0)), (19, (0, 0, 255))):
        seen = await page.evaluate(SEEK, [video["content_url"], second])
        assert abs(seen["length"] - SECONDS) < 0.5
        assert np.abs(np.array(seen["color"][:3]) - color).max() < 40, seen
