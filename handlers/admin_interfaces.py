"""Interface services in an admin's hands: who is registered, who is here with what load, and who may work.

Changes records; the registry makes sessions follow. A token is shown once, when it is made.
"""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from hub.clock import rfc3339
from hub.effects import Delete, Save
from hub.errors import Conflict, NotFound
from hub.interface import NAME, Dialect, Interface, changed, hash_token, new_token, register
from hub.session import Phase, WorkerSession
from hub.task import State, Task
from hub.webhooks import push_secret

from .admin import AdminEndpoint
from .answers import Rooms
from .bodies import Form
from .outbound import check_address
from .worker_poll import Polling
from .worker_push import PushPickup
from .worker_seed import SeedService
from .worker_socket import WorkerConnection

TRANSPORTS = {WorkerConnection: "websocket", Polling: "poll", PushPickup: "push", SeedService: "seed"}
COUNTED = (State.COMPLETED, State.FAILED)


class NewInterface(Form):
    name: str
    dialect: Dialect = "worker"
    address: str | None = None
    path: str | UnsetType = UNSET
    models: list[str] | UnsetType = UNSET
    slots: int | UnsetType = UNSET
    note: str | UnsetType = UNSET
    paused: bool | UnsetType = UNSET


class InterfaceChanges(Form):
    address: str | UnsetType = UNSET
    path: str | UnsetType = UNSET
    models: list[str] | UnsetType = UNSET
    slots: int | UnsetType = UNSET
    note: str | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    paused: bool | UnsetType = UNSET
    pending: bool | UnsetType = UNSET
    drain: bool | UnsetType = UNSET


class InterfaceEndpoint(AdminEndpoint):
    """What the endpoints of interface services share."""

    async def known(self, name: str) -> Interface:
        """Raises NotFound where no service has this name."""
        record = await self.rooms.store.get(Interface, name) if NAME.fullmatch(name) else None
        if record is None:
            raise NotFound("there is no such interface service")
        return record

    async def keep(self, record: Interface, previous: int) -> None:
        """Save a record, and let its session follow at once.

        Raises:
            Conflict: code name_taken: another service has its name or address.
        """
        self.rooms.runner.check_ready()
        try:
            await self.rooms.runner.carry_out([Save(record, previous)])
        except Conflict as error:
            if previous and error.code == "conflict":
                raise
            raise Conflict("another service has this name or address", code="name_taken") from None
        self.rooms.registry.hear(record)

    def secrets(self, record: Interface, token: str) -> dict[str, Any]:
        """What is told once: the token, and what a pushed service checks the hub's calls with."""
        if record.dialect == "seed":
            return {}
        secret = push_secret(self.rooms.settings.jwt_secret.encode(), record)
        return {"token": token} | ({"push_secret": secret} if record.dialect == "push" else {})

    def given(self, form: Form, *others: str) -> dict[str, Any]:
        """The fields of a record that a form sets.

        Raises:
            Invalid: code bad_url.
        """
        fields = {name: getattr(form, name) for name in form.__struct_fields__ if name not in others}
        fields = {name: value for name, value in fields.items() if value is not UNSET}
        if fields.get("address") is not None:
            fields["address"] = check_address(fields["address"], self.rooms.settings.interface_networks)
        return fields | ({"models": tuple(fields["models"])} if "models" in fields else {})


class AllInterfaces(InterfaceEndpoint):
    """GET all of them, by name, which is the cursor too."""

    cursor_form = NAME

    async def get(self) -> None:
        limit, after = self.page_arguments()
        records = sorted(self.rooms.registry.records.values(), key=lambda record: record.id)
        page = [record for record in records if after is None or record.id > after][:limit]
        counts = await asyncio.gather(*[self.counts(record) for record in page])
        items = [view(self.rooms, record, counted) for record, counted in zip(page, counts, strict=True)]
        self.answer_list(items, page, limit)

    async def counts(self, record: Interface) -> dict[str, int]:
        """How many tasks that this service had last have ended, by state."""
        return {state.value: await self.rooms.store.count(Task, worker=record.id, state=state) for state in COUNTED}


class Interfaces(AllInterfaces):
    """POST a new one."""

    async def post(self) -> None:
        form = self.form(NewInterface)
        token = new_token()
        record = register(form.name, token, self.rooms.clock.wall())
        made = replace(changed(record, **self.given(form, "name")), version=record.version)
        await self.keep(made, 0)
        self.set_header("Location", f"/api/admin/interfaces/{made.id}")
        self.answer({**view(self.rooms, made, {}), **self.secrets(made, token)}, 201)


class OneInterface(InterfaceEndpoint):
    """PATCH changes what may be; DELETE forgets it."""

    async def patch(self, name: str) -> None:
        form = self.form(InterfaceChanges)
        record = await self.known(name)
        fields = self.given(form, "drain")
        if form.drain is not UNSET:
            fields["draining"] = form.drain
        after = changed(record, **fields)
        await self.keep(after, record.version)
        self.answer(view(self.rooms, after, {}))

    async def delete(self, name: str) -> None:
        record = await self.known(name)
        self.rooms.runner.check_ready()
        await self.rooms.runner.carry_out([Delete(Interface, record.id)])
        self.rooms.registry.remove(name)
        self.set_status(204)


class RotateToken(InterfaceEndpoint):
    """POST /api/admin/interfaces/{name}/rotate: a new token; the old one opens no new connection."""

    async def post(self, name: str) -> None:
        record, token = await self.known(name), new_token()
        if record.dialect == "seed":
            raise Conflict("services in the older dialect have no token", code="conflict")
        after = changed(record, token_hash=hash_token(token))
        await self.keep(after, record.version)
        self.answer({"name": name, **self.secrets(after, token)})


def view(rooms: Rooms, record: Interface, counts: dict[str, int]) -> dict[str, Any]:
    """A registered service as admins see it."""
    core, now, wall = rooms.runner.core, rooms.clock.now(), rooms.clock.wall()
    session = core.session_of(record.id)
    running = [core.tasks[id] for id in session.leases.values() if id in core.tasks] if session is not None else []
    models = [model.name for model in session.models.values()] if session is not None else list(record.models)
    transport = rooms.runner.transports.get(session.id) if session is not None else None
    return {
        "name": record.id,
        "dialect": record.dialect,
        "address": record.address,
        "path": record.path if record.address else None,
        "models": models,
        "registered_models": list(record.models),
        "slots": session.slots if session is not None else record.slots,
        "enabled": record.enabled,
        "paused": record.paused,
        "draining": record.draining,
        "pending": record.pending,
        "note": record.note,
        "created_at": rfc3339(record.created_at),
        "state": state_of(record, session),
        "session": None if session is None else {
            "id": session.id,
            "instance": session.instance,
            "transport": TRANSPORTS.get(type(transport)),
            "attached": session.attached,
            "phase": session.phase.value,
            "slots_free": session.free,
            "hardware": session.hardware,
            "last_heard_at": rfc3339(wall - (now - session.heard_at)),
            "silent": round(now - session.heard_at, 1),
        },
        "running": [
            {"task": task.id, "model": task.model, "phase": task.phase, "progress": round(task.progress, 1),
             "attempt": task.attempt}
            for task in running
        ],
        "counts": counts,
    }


def state_of(record: Interface, session: WorkerSession | None) -> str:
    """One word for how a service is."""
    if record.pending or not record.enabled:
        return "pending" if record.pending else "disabled"
    if session is None or not session.attached:
        return "offline"
    if record.paused:
        return "paused"
    if record.draining or session.phase is Phase.DRAINING:
        return "draining"
    return "ready" if session.free else "busy"


ROUTES = [
    (r"/api/tasks/admin/interfaces", AllInterfaces),
    (r"/api/admin/interfaces", Interfaces),
    (r"/api/admin/interfaces/([^/]+)", OneInterface),
    (r"/api/admin/interfaces/([^/]+)/rotate", RotateToken),
]
