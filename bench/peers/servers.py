"""Servers that people would put before their files instead: nginx (PUT with dav, GET with sendfile) and @tus/server.

Neither waits for the disk before it says that a file has arrived, and neither hashes what arrives.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ..stage import end, free_port
from .install import CACHE, NotHere, install_npm, output, run

HERE = Path(__file__).resolve().parent
TUS_SERVER, FILE_STORE = "2.4.5", "2.1.1"
NGINX = """
daemon off; worker_processes auto; pid {folder}/nginx.pid; error_log {folder}/nginx.log; {user}
events {{ worker_connections 1024; }}
http {{
    access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; default_type application/octet-stream;
    client_max_body_size 0; client_body_buffer_size 256k; client_body_temp_path {folder}/coming;
    proxy_temp_path {folder}/t1; fastcgi_temp_path {folder}/t2; uwsgi_temp_path {folder}/t3; scgi_temp_path {folder}/t4;
    server {{ listen 127.0.0.1:{port} backlog=1024; root {folder}/files; dav_methods PUT; }}
}}
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A peer that runs, and keeps files in `files`; or the reason why there is none."""

    version: str = ""
    port: int = 0
    pid: int = 0
    files: Path = Path()
    skipped: str = ""


@asynccontextmanager
async def nginx(folder: Path) -> AsyncIterator[Server]:
    """nginx with a file for each body that it cannot hold, moved to its place in the end: both in `folder`."""
    try:
        program, environment = await asyncio.to_thread(install_nginx)
        version = (await asyncio.to_thread(says, program, environment)).strip()
    except NotHere as error:
        yield Server(skipped=str(error))
        return
    port = free_port()
    (folder / "files").mkdir(parents=True)
    configuration = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    configuration.write_text(NGINX.format(folder=folder, port=port, user=user))
    command = [str(program), "-c", str(configuration), "-p", str(folder)]
    async with running(command, environment, Server(version, port, files=folder / "files")) as server:
        yield server


@asynccontextmanager
async def tus_server(folder: Path) -> AsyncIterator[Server]:
    """The reference server of tus for Node, with its file store."""
    try:
        installed = await asyncio.to_thread(install_tus)
    except NotHere as error:
        yield Server(skipped=str(error))
        return
    port, files = free_port(), folder / "files"
    files.mkdir(parents=True)
    version = f"@tus/server {TUS_SERVER}, @tus/file-store {FILE_STORE}"
    command = ["node", str(HERE / "tus.mjs"), str(installed), str(port), str(files)]
    async with running(command, dict(os.environ), Server(version, port, files=files)) as server:
        yield server


@asynccontextmanager
async def running(command: list[str], environment: dict[str, str], server: Server) -> AsyncIterator[Server]:
    """The server while its process runs, or why that ended at once."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.close()
                break
            except OSError:
                await asyncio.sleep(0.05)
        else:
            server = Server(skipped=f"{command[0]} did not come up")
        yield replace(server, pid=process.pid)
    finally:
        end(process, 10)


def install_nginx() -> tuple[Path, dict[str, str]]:
    """The system's nginx, else Debian's, unpacked beside the other peers."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if found:
        return Path(found), dict(os.environ)
    unpacked = CACHE / "nginx"
    if not unpacked.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        fresh = CACHE / "nginx.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        run(["apt-get", "download", "-q", "nginx"], fresh)
        for package in sorted(fresh.glob("*.deb")):
            run(["dpkg", "-x", package.name, "."], fresh)
        fresh.rename(unpacked)
    return unpacked / "usr" / "sbin" / "nginx", dict(os.environ)


def says(program: Path, environment: dict[str, str]) -> str:
    """nginx's version, and that it can take files.

    Raises:
        NotHere: it does not run, or was built without dav.
    """
    try:
        told = subprocess.run([str(program), "-V"], env=environment, capture_output=True, text=True, check=True).stderr
    except (OSError, subprocess.SubprocessError) as error:
        raise NotHere(f"nginx does not run: {error}") from None
    if "http_dav_module" not in told:
        raise NotHere("this nginx was built without dav")
    return told.splitlines()[0].partition(": ")[2]


def install_tus() -> Path:
    """The folder whose node_modules holds @tus/server."""
    output(["node", "--version"], dict(os.environ))
    return install_npm(
        f"tus-{TUS_SERVER}-{FILE_STORE}", f"@tus/server@{TUS_SERVER}", f"@tus/file-store@{FILE_STORE}",
    )
