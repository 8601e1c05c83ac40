"""Files that are not what they should be, sent over HTTP: rows 135 to 142 of the bad inputs, and the other kinds.

Each is refused with its own code, nothing of it stays, nothing is connected to, and the hub takes the next file.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from tests import hostile_media, odd_media
from tests.handlers.running import Api, api, fine, hub, one_loop, place, refused, small_video

__all__ = ["api", "hub", "place"]
pytestmark = one_loop

FTYP = struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0)
MOVING_SIZES = struct.pack("<HH", 65535, 65535)


async def check_refused(api: Api, content: bytes, code: str, kind: str = "videos", name: str = "holiday.mp4") -> None:
    """It is refused, whatever it is called and said to be, and nothing has changed."""
    person = await api.user()
    type = "video/mp4" if kind == "videos" else "image/jpeg"
    async with api.unchanged():
        refused(await person.upload(content, kind, type, quote(name, safe="")), 422, code)
    assert (await person.get(f"/api/{kind}"))["items"] == []
    await person.upload_video()


@pytest.mark.parametrize("make", [odd_media.text, odd_media.ftyp_only, odd_media.zeros])
async def test_row_135_no_video_at_all(api: Api, make: Callable[[], Path]) -> None:
    await check_refused(api, make().read_bytes(), "not_video")


async def test_row_135_an_empty_file(api: Api) -> None:
    await check_refused(api, b"", "empty_file")


def nested(name: bytes, depth: int) -> bytes:
    """Boxes in boxes, each saying how long it is."""
    return b"".join(struct.pack(">I4s", 8 * (depth - level), name) for level in range(depth))


@pytest.mark.parametrize(("boxes", "code"), [
    (struct.pack(">I4s", 0, b"moov") * 3, "not_video"),
    (struct.pack(">I4sQ", 1, b"moov", 1 << 63), "not_video"),
    (struct.pack(">I4sQ", 1, b"mdat", 1 << 60) + b"moov", "truncated"),
    (nested(b"moov", 10_000), "not_video"),
    (nested(b"trak", 10_000), "not_video"),
], ids=["zero", "2^63", "2^60", "deep", "deep tracks"])
async def test_row_136_boxes_of_impossible_size(api: Api, boxes: bytes, code: str) -> None:
    await check_refused(api, FTYP + boxes, code)


async def test_row_137_more_samples_than_there_can_be(api: Api) -> None:
    data = bytearray(odd_media.silent().read_bytes())
    for table, at in ((b"stts", 8), (b"stsz", 12)):
        start = data.index(table) + at
        data[start:start + 4] = b"\xff\xff\xff\xff"
    await check_refused(api, bytes(data), "probe_memory")


@pytest.mark.parametrize(("content", "kind", "code"), [
    (b"GIF89a" + MOVING_SIZES + bytes(100), "videos", "unsupported_format"),
    (b"GIF89a" + MOVING_SIZES + bytes(100), "backgrounds", "unsupported_format"),
    (hostile_media.PNG + odd_media.chunk(b"IHDR", struct.pack(">IIBBBBB", 1 << 31, 1 << 31, 8, 2, 0, 0, 0))
     + odd_media.chunk(b"IDAT", b"") + odd_media.chunk(b"IEND", b""), "backgrounds", "too_many_pixels"),
], ids=["gif-video", "gif", "png"])
async def test_row_138_pictures_that_claim_to_be_immense(api: Api, content: bytes, kind: str, code: str) -> None:
    await check_refused(api, content, code, kind)


async def test_row_139_a_list_that_names_a_neighbours_file(api: Api) -> None:
    victim = await api.user()
    stored = (await victim.upload_video())["sha256"]
    path = next(Path(api.folder, name) for name in api.files() if name.endswith(stored))
    for named in (path, path.name, f"../{path.parent.name}/{path.name}", f"file:{path}"):
        await check_refused(api, f"ffconcat version 1.0\nfile {named}\n".encode(), "not_video")


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[int, list[str]]]:
    """A port, and who has connected to it."""
    seen: list[str] = []

    async def meet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append("somebody")
        writer.close()

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], seen


async def test_row_140_a_playlist_leads_nowhere(api: Api) -> None:
    async with listening() as (port, seen):
        for target in (f"http://127.0.0.1:{port}/x.ts", f"file://{odd_media.neighbour()}", str(odd_media.neighbour())):
            head = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:3\n#EXTINF:2.4,\n"
            await check_refused(api, f"{head}{target}\n#EXT-X-ENDLIST\n".encode(), "not_video")
        assert seen == []


async def test_row_142_a_name_is_never_opened(api: Api) -> None:
    person = await api.user()
    async with listening() as (port, seen):
        for scheme in ("rtsp", "http", "tcp"):
            name = f"{scheme}://127.0.0.1:{port}/x.mp4"
            await check_refused(api, odd_media.text().read_bytes(), "not_video", name=name)
            taken = fine(await person.upload(small_video(), name=quote(name, safe="")), 201)
            assert taken["name"] == "x.mp4"
        assert seen == []


@pytest.mark.parametrize(("name", "shown"), [
    ("../../etc/passwd", "passwd"), ("..", "video"), ("a/b\\c.mp4", "c.mp4"), ("/dev/null", "null"),
    ("x\u202egp4.mp4", "xgp4.mp4"), ("%00\r\n.mp4", "%00.mp4"), ("|rm -rf ~.mp4", "|rm -rf ~.mp4"), ("片.mp4", "片.mp4"),
])
async def test_p16_a_name_is_shown_and_never_a_path(api: Api, name: str, shown: str) -> None:
    person = await api.user()
    before = api.files()
    taken = fine(await person.upload(small_video(), name=quote(name, safe="")), 201)
    assert taken["name"] == shown
    new = {Path(path).name for path in api.files() - before}
    assert new <= {taken["sha256"], f"{taken['id']}.jpg", f"{taken['id']}.strip.jpg"}


@pytest.mark.parametrize(("make", "kind", "code"), [
    (odd_media.heic, "videos", "heic"), (odd_media.heic, "backgrounds", "heic"),
    (odd_media.svg, "videos", "svg"), (odd_media.svg, "backgrounds", "svg"),
    (odd_media.moving_gif, "videos", "animated"), (odd_media.moving_gif, "backgrounds", "animated"),
    (odd_media.moving_png, "videos", "animated"), (odd_media.moving_png, "backgrounds", "animated"),
    (odd_media.moving_webp, "videos", "animated"), (odd_media.moving_webp, "backgrounds", "animated"),
    (hostile_media.mp3, "videos", "no_video_stream"), (hostile_media.opus, "videos", "no_video_stream"),
    (hostile_media.no_frames, "videos", "no_frames"), (hostile_media.growing, "videos", "not_video"),
    (hostile_media.thin_png, "backgrounds", "too_many_pixels"),
])
async def test_each_kind_of_refused_file_has_a_code_of_its_own(
    api: Api, make: Callable[[], Path], kind: str, code: str
) -> None:
    await check_refused(api, make().read_bytes(), code, kind)


async def test_a_refusal_is_told_in_the_reader_s_language(api: Api) -> None:
    person = await api.user()
    headers = {"Content-Type": "image/jpeg", "Accept-Language": "zh-CN"}
    problem = refused(await person("POST", "/api/backgrounds", odd_media.heic().read_bytes(), headers), 422, "heic")
    assert problem["title"] == "不支持 HEIC 图片"
