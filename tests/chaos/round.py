"""One round: a hub, workers of every kind, users and viewers; bad luck while tasks flow; then peace, and the checks.

Owns who takes part and in which order things happen. What must hold in the end is in `checks`.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.ports import free_port

from . import checks
from .nemesis import KILLS, Nemesis, plan
from .network import FREE_NET, Cable, NamespaceCable, ProxyCable, namespaces_are_permitted
from .processes import Supervised, left_behind
from .users import Caller, Told, User
from .viewers import Viewer
from .worker import MODEL

KINDS = ("websocket", "websocket", "poll", "push", "older")
SLOTS = 2
USERS = 5
IDENTIFICATION = "the word of the chaos rounds: 8c1f4e02"
RULES = {
    "LEASE_SECONDS": "4", "HEARTBEAT_SECONDS": "1", "OFFER_SECONDS": "1", "POLL_GAP_SECONDS": "2",
    "STALL_SECONDS": "12", "HEARTBEAT_TIMEOUT": "0.06",
}
NO_DATABASE = "Error: mongod ended with"  # while the hub starts, which then says so and leaves it to its supervisor
READY_S, END_S, SETTLE_S = 90.0, 240.0, 20.0


@dataclass(slots=True)
class Outcome:
    """What became of a round: `broken` are promises that did not hold, the rest is what happened how often."""

    number: int
    seconds: float = 0.0
    broken: list[str] = field(default_factory=list)
    struck: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)


class Round:
    """The round `number` of a seed, in `folder`; `say` hears its story."""

    def __init__(
        self, seed: int, number: int, tasks: int, faults: int, folder: Path, say: Callable[[str], None],
    ) -> None:
        self.number = number
        self.tasks = tasks
        self.random = Random(f"{seed} {number}")
        self.faults = plan(self.random, tasks, faults, KILLS[number % len(KILLS)])
        self.folder = folder
        self.say = say
        self.began = time.monotonic()
        self.outcome = Outcome(number)
        self.told = Told()
        self.port = free_port()
        self.users_cable = ProxyCable(self.port)
        drawn = [self.random.choice((ProxyCable, NamespaceCable)) for _ in KINDS]
        permitted = namespaces_are_permitted()
        self.cables: list[Cable] = [kind(self.port) if permitted else ProxyCable(self.port) for kind in drawn]
        self.hub: Supervised
        self.admin = Caller(f"http://127.0.0.1:{self.port}")
        self.workers: list[Supervised] = []
        self.users: list[User] = []
        self.viewers: list[Viewer] = []

    def tell(self, what: str) -> None:
        self.say(f"{time.monotonic() - self.began:7.2f}  {what}")

    async def run(self, clip: bytes) -> Outcome:
        """All of it."""
        try:
            async with AsyncExitStack() as stack:
                await self.set_up(stack, clip)
                await self.bad_luck()
                await self.peace()
        except Exception:
            self.outcome.broken.append(traceback.format_exc())
        self.outcome.broken += await left_behind()
        self.outcome.broken += checks.of_logs(self.folder)
        self.outcome.seconds = time.monotonic() - self.began
        return self.outcome

    # --- before -------------------------------------------------------------------------------------------------

    async def set_up(self, stack: AsyncExitStack, clip: bytes) -> None:
        for cable in [self.users_cable, *self.cables]:
            await cable.lay()
            stack.callback(cable.remove)
        stack.callback(self.admin.http.close)
        self.hub = self.process("hub", ["hub", "run", "--first-admin"], self.hub_environment(), excuse=NO_DATABASE)
        await self.start(self.hub, stack)
        await self.until("there is an admin", self.admin_is_known)
        self.tell("the hub is ready")
        for number, kind in enumerate(KINDS):
            self.workers.append(await self.worker(number, kind))
            await self.start(self.workers[-1], stack)
        url = self.users_cable.hub_url
        self.users = [User(f"user{number}", url, Random(self.random.random()), self.told) for number in range(USERS)]
        for user in self.users:
            stack.callback(user.call.http.close)
        await asyncio.gather(*(user.arrive(clip) for user in self.users))
        for user in self.users:
            self.viewers.append(viewer := Viewer(user.name, url, user.call.token))
            stack.push_async_callback(ended, asyncio.create_task(viewer.watch()))
        self.tell("the users are here")
        await self.until("all workers are here", self.workers_are_here)
        self.tell("the workers are here")
        await self.until("all viewers are here", self.viewers_are_here)

    def process(
        self, name: str, words: list[str], environment: dict[str, str], prefix: Sequence[str] = (), excuse: str = "",
    ) -> Supervised:
        command = [*prefix, sys.executable, "-u", "-m", *words]
        environment["TMPDIR"] = str(self.folder)
        return Supervised(name, command, environment, self.folder / f"{name}.log", excuse)

    async def start(self, process: Supervised, stack: AsyncExitStack) -> None:
        async def stop() -> None:
            self.outcome.broken += await process.stop() + process.surprises

        stack.push_async_callback(stop)
        await process.start()

    def hub_environment(self) -> dict[str, str]:
        folder = str(self.folder)
        return {
            **RULES, "NODE_ENV": "development", "APP_ENV": "development", "BIND": "0.0.0.0", "PORT": str(self.port),
            "INTERFACE_NETWORKS": f"127.0.0.0/8, {FREE_NET}",
            "API_BASE_URL": self.cables[KINDS.index("older")].hub_url, "MONGODB_URI": "", "DB_HOST": "",
            "DB_NAME": checks.DATABASE, "DATA_DIR": f"{folder}/data", "UPLOAD_VIDEOS_DIR": f"{folder}/videos",
            "UPLOAD_BACKGROUNDS_DIR": f"{folder}/backgrounds", "OUTPUT_DIR": f"{folder}/output",
            "SHARED_DIR": f"{folder}/shared", "LOG_FORMAT": "json", "LOG_LEVEL": "info",
            "INTERFACE_IDENTIFICATION": IDENTIFICATION, "AUTO_REGISTER_INTERFACES": "true", "INTERFACE_MODELS": MODEL,
        }

    async def worker(self, number: int, kind: str) -> Supervised:
        """One worker, registered where an admin does that."""
        name, cable = f"{kind}-{number}", self.cables[number]
        common = ["--hub", cable.hub_url, "--host", cable.listen_host, "--port", str(cable.listen_port)]
        common += ["--ledger", str(self.folder / "ledger.jsonl")]
        if kind == "older":
            words = ["tests.chaos.older_service", *common, "--address", cable.address]
            return self.process(name, words, {"INTERFACE_IDENTIFICATION": IDENTIFICATION}, cable.prefix)
        wanted: dict[str, Any] = {"name": name}
        if kind == "push":
            wanted |= {"dialect": "push", "address": cable.address, "slots": SLOTS}
        secrets = await self.admin.must(201, "POST", "/api/admin/interfaces", wanted)
        words = ["tests.chaos.worker", *common, "--name", name, "--transport", kind, "--slots", str(SLOTS)]
        return self.process(name, words, {
            "WORKER_TOKEN": secrets["token"], "WORKER_PUSH_SECRET": secrets.get("push_secret", ""),
        }, cable.prefix)

    async def admin_is_known(self) -> bool:
        """Sign in as the first admin, once the hub has told of one."""
        printed = re.search(r"admin: (\S+) +password: (\S+)", self.hub.log.read_text())
        if printed is not None:
            account = {"email": printed[1], "password": printed[2]}
            self.admin.token = (await self.admin.must(200, "POST", "/api/auth/login", account))["token"]
        return printed is not None

    async def hub_is_ready(self) -> bool:
        return (await self.admin("GET", "/readyz"))[0] == 200

    async def workers_are_here(self) -> bool:
        status, answer = await self.admin("GET", "/readyz")
        return status == 200 and answer["workers"] == len(KINDS)

    async def viewers_are_here(self) -> bool:
        return all(viewer.subscribed.is_set() for viewer in self.viewers)

    async def until(self, what: str, holds: Callable[[], Any], seconds: float = READY_S) -> None:
        """Wait for something in another process, which announces nothing."""
        end = time.monotonic() + seconds
        while not await holds():
            assert time.monotonic() < end, f"not in {seconds:.0f} s: {what}"
            await asyncio.sleep(0.2)

    # --- what happens -------------------------------------------------------------------------------------------

    async def bad_luck(self) -> None:
        """Tasks flow, and what was planned goes wrong; all orders are accepted and all is mended at the end."""
        nemesis = Nemesis(
            self.hub, self.workers, self.cables, self.users_cable, self.told, self.tell, self.outcome.struck,
        )
        share, more = divmod(self.tasks, USERS)
        self.tell("orders begin")
        async with asyncio.timeout(END_S), asyncio.TaskGroup() as group:
            for number, user in enumerate(self.users):
                group.create_task(user.order_all(share + (number < more)))
            group.create_task(nemesis.carry_out(self.faults))
        self.tell(f"{self.told.ordered} orders are accepted, nothing goes wrong from here on")

    async def peace(self) -> None:
        """Wait for the end of every task, then compare what everybody knows."""
        await self.until("the hub is ready", self.hub_is_ready)
        async with checks.records(self.folder / "data") as store:
            try:
                await self.until("all tasks have ended", lambda: self.all_ended(store), END_S)
                self.tell("all tasks have ended")
            except AssertionError as error:
                self.outcome.broken.append(str(error))
            with suppress(AssertionError):
                await self.until("the viewers are content", lambda: checks.viewers_agree(store, self.viewers), SETTLE_S)
            found = await checks.look(store, self.told, self.viewers, self.folder)
        await self.download(found)
        self.outcome.broken += found.complaints
        self.outcome.states = found.states
        self.outcome.seen += found.seen
        self.outcome.seen["asked again"] = self.told.again

    async def all_ended(self, store: Any) -> bool:
        await self.forgive()
        return await checks.all_ended(store, set(self.told.tasks.values()))

    async def forgive(self) -> None:
        """An admin lets workers on that the hub has paused because everything failed on them."""
        status, answer = await self.admin("GET", "/api/admin/interfaces")
        for interface in answer["items"] if status == 200 else []:
            if interface["paused"]:
                self.tell(f"an admin lets {interface['name']} work again: {interface['note']}")
                await self.admin("PATCH", f"/api/admin/interfaces/{interface['name']}", {"paused": False})
                self.outcome.seen["paused workers"] += 1

    async def download(self, found: checks.Found) -> None:
        """Every result can be had by its owner, as it was accepted."""
        by_id = {user.id: user for user in self.users}
        for task in found.completed:
            user = by_id[task.owner]
            view = await user.call.must(200, "GET", f"/api/tasks/{task.id}")
            status, body = await user.call("GET", view["result"]["video"]["url"])
            found.downloaded(task, status, body)


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
