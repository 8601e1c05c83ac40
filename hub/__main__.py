"""The composition root, and the command that runs the hub: the only module that sees every room."""

from __future__ import annotations

import asyncio
import gc
import random
import secrets
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import click
import structlog
from tornado.netutil import bind_sockets

from handlers.app import make_app, make_server
from handlers.audience import Audience
from handlers.base import Rooms
from handlers.identity import Identities
from handlers.inputs import Inputs
from handlers.listening import Listening
from handlers.receptions import Receptions
from handlers.registry import Registry
from handlers.worker_push import Pushers
from store.passwords import Passwords
from store.probe import Probe
from store.space import Space
from store.tokens import Tokens
from worker.local import LocalWorker

from . import logs, messages
from .account import SignInLimiter, User
from .clock import SystemClock
from .commands import add_user, known_user, opened_store, perform, read_settings, user
from .core import Core, Link
from .effects import Delete
from .ids import new_id
from .interface_commands import enter_interface, interface
from .links import Links
from .media import Purpose
from .media_commands import make_files, media
from .ports import Store
from .rules import Rules
from .runner import Runner
from .settings import Settings
from .sweeper import Sweeper
from .task import Source, Task
from .topics import Topics
from .upload import Limits, Uploads
from .verify import Verifier
from .views import Views

ROOT = Path(__file__).resolve().parent.parent
BACKLOG = 4096  # a whole audience may come back at once after a restart
COLLECT_AFTER = 10_000, 20, 50  # new objects, and rounds, after which the garbage collector looks
LOCAL_WORKER = "local"
FIRST_ADMIN = "admin@hub.local"
SIGNALS = (signal.SIGINT, signal.SIGTERM)
log = structlog.get_logger(__name__)


class Hub:
    """A running hub: everything made, wired and started in order, and stopped in the reverse order.

    A `store` that is given is used as it is, and outlives the hub.
    """

    def __init__(self, settings: Settings, store: Store | None = None) -> None:
        self.settings = settings
        self.store = store
        self.port = settings.port
        self.parts = AsyncExitStack()
        self.rooms: Rooms
        self.runner: Runner
        self.pushers: Pushers

    @property
    def url(self) -> str:
        """Where this process can be reached from this machine."""
        host = "127.0.0.1" if self.settings.bind in ("0.0.0.0", "::") else self.settings.bind
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    async def start(self) -> None:
        """Come up; after this the port answers.

        Raises:
            EmbeddedError: the database cannot run here.
        """
        settings = self.settings
        clock = SystemClock()
        if self.store is None:
            self.store = await self.parts.enter_async_context(opened_store(settings, supervise=True))
        store = self.store
        secret = settings.jwt_secret.encode()
        links = Links(secret, "")
        files = make_files(settings)
        self.parts.callback(files.close)
        probe = Probe()
        self.parts.push_async_callback(probe.stop)
        await probe.start()
        views = Views(
            links.sign, settings.upload_url_path, settings.upload_backgrounds_url_path, settings.result_keep_days,
        )
        core = Core(
            make_rules(settings), new_id, lambda task, lease: link(links, settings, task, lease), random.random,
        )
        self.runner = Runner(
            core, store, clock, views, Topics(secrets.token_hex(4)), Verifier(store, files, probe),
        )
        await self.runner.start()
        self.parts.push_async_callback(self.runner.stop)
        tokens, passwords = Tokens(secret, settings.jwt_expires_in), Passwords()
        self.parts.callback(passwords.close)
        self.rooms = Rooms(
            settings, clock, store, self.runner, files, probe, passwords, tokens, links, views, SignInLimiter(),
            Identities(store, tokens, clock), Inputs(store, clock),
        )
        self.rooms.receptions = Receptions(self.rooms, Uploads(make_limits(settings)))
        await self.rooms.receptions.start()
        self.rooms.audience = Audience(self.rooms, settings.max_viewers_per_user)
        self.runner.own(self.rooms.audience.watch())
        self.runner.own(self.rooms.pulse.beat_forever())
        self.runner.topics.rounds.later = asyncio.get_running_loop().call_soon
        self.rooms.registry = Registry(self.rooms)
        await self.rooms.registry.start()
        self.rooms.sweeper = Sweeper(
            store, files, Space(files), clock, self.rooms.contents.of, self.runner.carry_out, settings.result_keep_days,
        )
        self.runner.own(self.rooms.sweeper.run())
        self.listen()
        self.pushers = Pushers(self.rooms)
        self.runner.own(self.pushers.run())
        log.info("hub_started", url=self.url)

    def listen(self) -> None:
        """Open the port."""
        server = make_server(make_app(self.rooms, ROOT / "static"))
        try:
            sockets = bind_sockets(self.settings.port, self.settings.bind, backlog=BACKLOG)
        except OSError as error:
            raise click.ClickException(f"cannot listen on port {self.settings.port}: {error.strerror}") from None
        self.port = sockets[0].getsockname()[1]
        listening = Listening(server, sockets)

        async def close() -> None:
            listening.stop()
            self.runner.close_sockets()
            for line in tuple(self.rooms.kept):
                line.end()
            try:
                await asyncio.wait_for(server.close_all_connections(), 3)
            except TimeoutError:
                log.info("connections_left_open")

        self.parts.push_async_callback(close)

    async def stop(self) -> None:
        """Go down in order; stopping twice is harmless."""
        await self.parts.aclose()


@contextmanager
def no_collections() -> Iterator[None]:
    """What this process makes in this block stays: the garbage collector looks through it neither now nor ever after.

    With a million tasks each look would hold the loop for most of a second. Afterwards it looks seldom: nearly all
    that a request makes is gone without it.
    """
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.set_threshold(*COLLECT_AFTER)
        gc.enable()


def make_limits(settings: Settings) -> Limits:
    """What a user may upload, from the settings."""
    return Limits(
        settings.user_storage_limit, settings.user_files_limit, settings.user_uploads_limit, settings.upload_expires_in,
    )


def make_rules(settings: Settings) -> Rules:
    """The machine's intervals, from the settings."""
    return Rules(
        lease_s=settings.lease_seconds, renew_s=settings.lease_seconds / 4, heartbeat_s=settings.heartbeat_seconds,
        offer_s=settings.offer_seconds, max_attempts=settings.max_attempts, stall_s=settings.stall_seconds,
        user_cap=settings.max_running_per_user,
    )


def link(links: Links, settings: Settings, task: Task, lease: str) -> Link:
    """A lease's addresses: relative to the hub, because each worker reaches it by a name of its own."""
    token = links.job_token(lease)
    inputs = [make_input(task.video, Purpose.VIDEO, settings.upload_url_path, token)]
    if task.background is not None:
        inputs.append(make_input(task.background, Purpose.BACKGROUND, settings.upload_backgrounds_url_path, token))
    return Link(inputs, f"/api/uploads?job={token}")


def make_input(source: Source, purpose: Purpose, folder: str, token: str) -> messages.Input:
    return messages.Input(purpose, f"/{folder}/{source.media_id}/input?job={token}", source.sha256, source.size)


# --- the command line ----------------------------------------------------------------------------------------


@click.group()
def cli() -> None:
    """The video segmentation hub."""


@cli.command()
@click.option("--local-worker", is_flag=True, help="Keep a reference worker running beside the hub.")
@click.option("--first-admin", is_flag=True, help="Create an admin if there is none, and show the password once.")
def run(local_worker: bool, first_admin: bool) -> None:
    """Run the hub until Ctrl-C or SIGTERM."""
    perform(serve(read_settings(), local_worker, first_admin))
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # it has stopped; to be told so once more must not look like a crash


async def serve(settings: Settings, local_worker: bool, first_admin: bool) -> None:
    """Run a hub until it is told to stop."""
    stop = told_to_stop()
    hub = Hub(settings)
    beside: LocalWorker | None = None
    try:
        with no_collections():
            await hub.start()
        if first_admin:
            await greet(hub)
        if local_worker:
            token, _ = await enter_interface(hub.rooms.store, LOCAL_WORKER)
            beside = LocalWorker(hub.url, token, name=LOCAL_WORKER)
            beside.start()
        logs.say(f"\n  The hub is at {settings.api_base_url}  (Ctrl-C stops it)\n")
        await stop.wait()
        log.info("hub_stopping")
    finally:
        if beside is not None:
            await beside.stop()
        await hub.stop()


def told_to_stop() -> asyncio.Event:
    """What is set by Ctrl-C and SIGTERM, however often; the loop's own handlers would be gone before the process is."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def tell(*_: object) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(stop.set)

    for number in SIGNALS:
        signal.signal(number, tell)
    return stop


async def greet(hub: Hub) -> None:
    """Create the first admin, and tell the password this once; where it cannot be told, the next start tries again."""
    store = hub.rooms.store
    if await store.count(User, role="admin"):
        return
    password = secrets.token_urlsafe(12)
    await add_user(store, FIRST_ADMIN, "Admin", True, password)
    if not logs.say(f"\n  First admin: {FIRST_ADMIN}   password: {password}   (shown only this once)"):
        admin = await known_user(store, FIRST_ADMIN)
        await store.commit([Delete(User, admin.id)])


cli.add_command(user)
cli.add_command(interface)
cli.add_command(media)

if __name__ == "__main__":
    cli()
