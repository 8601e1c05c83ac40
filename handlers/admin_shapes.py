"""What admins and operators get to see, as types: the part of handlers/shapes that is theirs."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Struct, UnsetType

from hub import session
from hub.interface import Dialect

from .shapes import Bytes, Count, Model, Percent, Task, Time, User, one_of


class KnownUser(User):
    """A user as admins see one."""

    disabled: bool
    weight: int


class Owner(Struct):
    id: str
    email: str | None


class OwnedTask(Task, kw_only=True):
    """A task as admins see it: whose it is, and how long ago it was created."""

    owner: Owner
    age: float


class Session(Struct):
    """A connected interface service, or one that may come back; `silent` is since when it has said nothing."""

    id: str
    instance: str
    transport: Literal["websocket", "poll", "push", "seed"] | None
    attached: bool
    phase: Annotated[str, one_of(session.Phase)]
    slots_free: Count
    hardware: dict[str, str | int | float | bool | None]
    last_heard_at: Time
    silent: float


class Running(Struct):
    task: str
    model: str
    phase: str | None
    progress: Percent
    attempt: Count


class Interface(Struct):
    """A registered interface service; `counts` are the ended tasks that it had last, where a list tells them."""

    name: str
    dialect: Dialect
    address: str | None
    path: str | None
    models: list[str]
    registered_models: list[str]
    slots: Count
    enabled: bool
    paused: bool
    draining: bool
    pending: bool
    note: str
    created_at: Time
    state: Literal["ready", "busy", "paused", "draining", "offline", "disabled", "pending"]
    session: Session | None
    running: list[Running]
    counts: dict[str, Count]


class MadeInterface(Interface, kw_only=True):
    """With its secrets, which are told this once; services in the older dialect have none."""

    token: str | UnsetType = UNSET
    push_secret: str | UnsetType = UNSET


class Secrets(Struct):
    name: str
    token: str
    push_secret: str | UnsetType = UNSET


class OfferedModel(Model):
    """With how many tasks wait for it, and who offers it now."""

    waiting: Count
    interfaces: list[str]


class Slots(Struct):
    all: Count
    free: Count


class Room(Struct):
    total: Bytes
    free: Bytes


class Removed(Struct):
    number: Count
    size: Bytes


class Space(Struct):
    """What the last round of tidying found; `refused`: no file is known to a record, so nothing was touched."""

    at: Time
    used: dict[str, Bytes]
    refused: bool
    missing: Count
    missing_ids: list[str]
    orphans: Removed
    results: Removed
    leftovers: Removed


class Stats(Struct):
    """Tasks by state, sessions by phase, room by folder."""

    tasks: dict[str, Count]
    sessions: dict[str, Count]
    slots: Slots
    users: Count
    media: Count
    viewers: Count
    space: Space | None
    disk: dict[str, Room]


class Alive(Struct):
    status: Literal["ok"]


class Ready(Struct):
    status: Literal["ready"]
    workers: Count


class Version(Struct):
    name: str
    version: str
