"""A disk that is full, and one whose power is cut: small file systems of the tests' own, where that is permitted."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from urllib.error import HTTPError

import pytest

from tests.resuming.client import Client, padded
from tests.resuming.process import HubProcess

MIB = 1024 * 1024


@contextmanager
def mounted(*what: str | Path, at: Path) -> Iterator[Path]:
    """A file system of its own; skips where mounting is not permitted."""
    at.mkdir()
    if subprocess.run(["mount", *what, at], capture_output=True).returncode:
        pytest.skip("mounting needs root, and for images a loop device")
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", at], check=True)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The image of an empty disk, as a file."""
    make = shutil.which("mkfs.ext4", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if make is None:
        pytest.skip("there is no mkfs.ext4 here")
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(96 * MIB)
    subprocess.run([make, "-q", "-F", image], check=True)
    return image


def settle_sizes(folder: Path) -> None:
    """Have the file system write its journal, with all sizes that it knows."""
    other = os.open(folder / "other", os.O_RDWR | os.O_CREAT)
    try:
        os.write(other, b"x")
        os.fsync(other)
    finally:
        os.close(other)


@asynccontextmanager
async def running(hub: HubProcess, before: Sequence[str] = ()) -> AsyncIterator[HubProcess]:
    await hub.start(before)
    try:
        yield hub
    finally:
        hub.stop()


def after_a_reboot(folder: Path) -> list[str]:
    """What to put before a command that shall find that the machine has been started again."""
    (folder / "boot").write_text("7c0ffee0-0000-4000-8000-000000000019\n")
    bind = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", bind, str(folder / "boot")]


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def test_p14_fault_16_a_disk_that_fills_in_mid_upload(mongo_uri: str, tmp_path: Path) -> None:
    """P1, P14, fault 16: 507, an honest offset, everything else goes on, and so does the upload once there is room."""
    content = padded(5 * MIB, 16)
    with mounted("-t", "tmpfs", "-o", "size=8m", "none", at=tmp_path / "disk") as disk:
        async with running(HubProcess(mongo_uri, disk)) as hub:
            client = Client(hub.url, await asyncio.to_thread(hub.user))
            path = await asyncio.to_thread(client.create, len(content))
            assert (await asyncio.to_thread(client.patch, path, 0, content[:MIB])).status == 204
            ballast = disk / "ballast"
            ballast.write_bytes(bytes(shutil.disk_usage(disk).free - 600_000))
            full = await asyncio.to_thread(client.patch, path, MIB, content[MIB:MIB + 1_000_000])
            assert (full.status, full.json["code"]) == (507, "disk_full")
            offset = await asyncio.to_thread(client.offset, path)
            assert MIB <= offset == hub.arrived() < len(content)
            small = content[:500_000]
            raw = await asyncio.to_thread(client, "POST", "/api/videos?name=x", small, Content_Type="video/mp4")
            assert (raw.status, raw.json["code"]) == (507, "disk_full")
            assert hub.arrived() == offset
            limits = (await asyncio.to_thread(client, "GET", "/api/uploads/limits")).json
            assert (limits["size"]["used"], limits["size"]["reserved"]) == (0, len(content))
            ballast.unlink()
            assert (await asyncio.to_thread(client.patch, path, offset, content[offset:])).status == 204
            upload = (await asyncio.to_thread(client, "GET", path)).json
            assert (upload["state"], upload["sha256"]) == ("ready", digest(content))
            assert hub.arrived() == 0


@pytest.mark.chaos
async def test_p5_fault_18_a_disk_that_fills_under_the_database(tmp_path: Path) -> None:
    """P5, fault 18: the hub's own mongod finds no room; the hub lives, and loses nothing that it has said 201 to."""
    (tmp_path / "hub" / "data").mkdir(parents=True)
    with mounted("-t", "tmpfs", "-o", "size=256m", "none", at=tmp_path / "hub" / "data" / "mongo") as disk:
        async with running(HubProcess("", tmp_path / "hub")) as hub:
            tokens = [await asyncio.to_thread(hub.user)]
            ballast = disk / "ballast"
            with suppress(OSError), ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            refusals: list[tuple[int, str]] = []
            async with asyncio.timeout(120):
                while not refusals:
                    try:
                        tokens.append(await asyncio.to_thread(hub.user))
                    except HTTPError as error:
                        refusals.append((error.code, json.load(error)["code"]))
            assert refusals[0] in ((503, "unavailable"), (507, "disk_full"))
            for _ in range(2):
                assert (await asyncio.to_thread(Client(hub.url, ""), "GET", "/livez")).status == 200
                answer = await asyncio.to_thread(Client(hub.url, tokens[0]), "GET", "/api/videos")
                assert answer.status in (200, 503), answer
            ballast.unlink()
            async with asyncio.timeout(90):
                while not await asyncio.to_thread(hub.ready):
                    await asyncio.sleep(0.2)
            for token in tokens:
                assert (await asyncio.to_thread(Client(hub.url, token), "GET", "/api/videos")).status == 200
            await asyncio.to_thread(hub.user)


async def test_p1_p3_fault_19_a_power_cut(mongo_uri: str, tmp_path: Path, image: Path) -> None:
    """P1, P3, fault 19: what was acknowledged is on a copy of the disk's image, made while it is written to."""
    content = padded(12 * MIB, 19)
    with mounted("-o", "loop", image, at=tmp_path / "disk") as disk:
        hub = HubProcess(mongo_uri, disk / "hub")
        (disk / "hub").mkdir()
        async with running(hub):
            client = Client(hub.url, await asyncio.to_thread(hub.user))
            path = await asyncio.to_thread(client.create, len(content))
            acknowledged = (await asyncio.to_thread(client.patch, path, 0, content[:5 * MIB + 7])).offset
            unsynced = asyncio.create_task(
                asyncio.to_thread(client.patch, path, acknowledged, content[acknowledged:11 * MIB])
            )
            shutil.copyfile(image, tmp_path / "first")
            await unsynced
            assert (await asyncio.to_thread(client.patch, path, 11 * MIB, content[11 * MIB:])).status == 204
            assert (await asyncio.to_thread(client, "GET", path)).json["state"] == "ready"
            shutil.copyfile(image, tmp_path / "last")
            hub.kill()
    with mounted("-o", "loop", tmp_path / "last", at=tmp_path / "after") as disk:
        hub = HubProcess(mongo_uri, disk / "hub", DB_NAME=hub.environment["DB_NAME"])
        async with running(hub, after_a_reboot(tmp_path)) as again:
            client = Client(again.url, client.token)
            video = (await asyncio.to_thread(client, "GET", f"/api/videos/{path.rsplit('/', 1)[1]}")).json
            assert digest((await asyncio.to_thread(client, "GET", video["content_url"])).body) == digest(content)
            assert again.arrived() == 0
    with mounted("-o", "loop", tmp_path / "first", at=tmp_path / "before") as disk:
        left = (disk / "hub" / "videos" / ".incoming" / path.rsplit("/", 1)[1]).read_bytes()
        assert left[:acknowledged] == content[:acknowledged]  # what comes after them is not believed


async def test_p1_fault_19_an_upload_goes_on_after_a_power_cut(mongo_uri: str, tmp_path: Path, image: Path) -> None:
    """P1, fault 19: the hub that comes up on the copy goes on where the last answer said, although more had come."""
    content = padded(12 * MIB, 20)
    with mounted("-o", "loop", image, at=tmp_path / "disk") as disk:
        (disk / "hub").mkdir()
        hub = HubProcess(mongo_uri, disk / "hub")
        async with running(hub):
            client = Client(hub.url, await asyncio.to_thread(hub.user))
            path = await asyncio.to_thread(client.create, len(content))
            acknowledged = (await asyncio.to_thread(client.patch, path, 0, content[:7 * MIB + 7])).offset
            with client.hanging_patch(path, acknowledged, content[acknowledged:11 * MIB], MIB):
                async with asyncio.timeout(30):
                    while hub.arrived() < 11 * MIB:
                        await asyncio.sleep(0.02)
                subprocess.run(["sync", "--file-system", disk], check=True)  # not by the hub, so it does not know
                shutil.copyfile(image, tmp_path / "copy")
                hub.kill()
    with mounted("-o", "loop", tmp_path / "copy", at=tmp_path / "after") as disk:
        hub = HubProcess(mongo_uri, disk / "hub", DB_NAME=hub.environment["DB_NAME"])
        assert hub.arrived() == 11 * MIB
        async with running(hub, after_a_reboot(tmp_path)) as again:
            client = Client(again.url, client.token)
            offset = await asyncio.to_thread(client.offset, path)
            assert offset == acknowledged == hub.arrived()
            assert (await asyncio.to_thread(client.patch, path, offset, content[offset:])).status == 204
            upload = (await asyncio.to_thread(client, "GET", path)).json
            assert (upload["state"], upload["sha256"]) == ("ready", digest(content))
