"""Every message on a wire, as a type: the worker protocol (vsh.worker.v1) and the live events for browsers.

Owns the "type" strings: no other module spells one. Never knows a socket, a session or a store.
Each worker message has a number `n` that grows by one per direction, and `ack`, the last number handled.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

PROTOCOL = 1
SUBPROTOCOL = "vsh.worker.v1"
MAX_MESSAGE = 256 * 1024  # bytes of one worker or browser text message
LONGEST_WAIT_S = 3600  # seconds that a worker may ask for before the next attempt

Id = Annotated[str, Meta(min_length=1, max_length=128)]
Text = Annotated[str, Meta(max_length=2000)]
Percent = Annotated[float, Meta(ge=0, le=100)]


class Message(Struct, kw_only=True, omit_defaults=True):
    """What all worker messages share: the sender's number and the last number that it handled."""

    n: Annotated[int, Meta(ge=0)] = 0
    ack: Annotated[int, Meta(ge=0)] = 0


# --- worker -> hub ----------------------------------------------------------------------------------------------


class Model(Struct, frozen=True, omit_defaults=True):
    """A model that a worker offers: `name` is the id that users choose, `description` says what it is good for.

    The worker is not offered videos with more pixels in a picture than `max_pixels`, or more pictures than
    `max_frames`; 0 is no limit.
    """

    name: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    alias: Annotated[str, Meta(max_length=100)] = ""
    description: Text = ""
    max_pixels: Annotated[int, Meta(ge=0, le=2**40)] = 0
    max_frames: Annotated[int, Meta(ge=0, le=2**40)] = 0


class Hello(Message, tag="hello"):
    """First message on every transport: who this is, what it can do, and which leases it still works on."""

    protocol: int
    worker: Id
    instance: Id
    models: Annotated[list[Model], Meta(max_length=100)]
    slots: Annotated[int, Meta(ge=1, le=64)] = 1
    hardware: dict[str, str | int | float | bool | None] = {}
    running: Annotated[list[Id], Meta(max_length=64)] = []
    last_seen: Annotated[int, Meta(ge=0)] = 0


class Accept(Message, tag="accept"):
    offer: Id


class Decline(Message, tag="decline"):
    offer: Id
    reason: Text = ""


class Progress(Message, tag="progress"):
    """How far one lease's work is: `progress` 0..100 over the whole task, `phase` the stage that runs now."""

    lease: Id
    phase: str
    progress: Percent
    frames_done: Annotated[int, Meta(ge=0)] | None = None
    message: Text = ""


class Renew(Message, tag="renew"):
    lease: Id


class Artifact(Struct, frozen=True, omit_defaults=True):
    """One finished file: the upload that holds it, what it is for, its hash and its number of frames."""

    purpose: str
    upload_id: Id
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    frames: Annotated[int, Meta(ge=0)] = 0


class Result(Message, tag="result"):
    lease: Id
    artifacts: Annotated[list[Artifact], Meta(min_length=1, max_length=4)]
    stats: dict[str, float] = {}


class Failed(Message, tag="failed"):
    """The work ended badly: `retryable` false means that the input is to blame and nobody else should try."""

    lease: Id
    code: Annotated[str, Meta(min_length=1, max_length=64)]
    retryable: bool = True
    retry_after: Annotated[float, Meta(ge=0, le=LONGEST_WAIT_S)] | None = None
    detail: Text = ""


class Status(Message, tag="status"):
    slots_free: Annotated[int, Meta(ge=0)] = 0
    load: float = 0.0


class Drain(Message, tag="drain"):
    """No more offers, please (worker) or there will be none (hub); running work goes on."""

    reason: Text = ""


class Bye(Message, tag="bye"):
    """The worker leaves for good and runs nothing more."""


class Preview(Struct, frozen=True):
    """The header of a picture, which is a binary message of its own and has no number: see hub/previews."""

    lease: Id
    kind: Literal["original", "mask", "composite"]
    frame: Annotated[int, Meta(ge=0)] | None = None


FromWorker = Hello | Accept | Decline | Progress | Renew | Result | Failed | Status | Drain | Bye


# --- hub -> worker ----------------------------------------------------------------------------------------------


class Welcome(Message, tag="welcome"):
    """The session stands: send something every `heartbeat_s`, renew each lease every `renew_s` of its `lease_s`.

    `resumed` is true when the hub still knew this instance; unacknowledged messages follow again.
    """

    session: Id
    heartbeat_s: float
    renew_s: float
    lease_s: float
    resumed: bool = False


class Offer(Message, tag="offer"):
    """Would you take this? Silence for `deadline_s` counts as no."""

    offer: Id
    task: Id
    model: str
    video: dict[str, Any] = {}
    deadline_s: float = 5.0


class Input(Struct, frozen=True):
    """One file to fetch: `url` carries the job's own token; check `sha256` and `size` (bytes) after fetching."""

    purpose: str
    url: str
    sha256: str
    size: int


class Assign(Message, tag="assign"):
    """The task is yours while the lease lives; `upload_url` takes the finished files."""

    lease: Id
    task: Id
    attempt: int
    model: str
    options: dict[str, Any]
    inputs: list[Input]
    upload_url: str
    deadline: float | None = None


class Watching(Message, tag="watching"):
    lease: Id
    on: bool


class Cancel(Message, tag="cancel"):
    """Stop this work; nothing that is sent for its lease counts any more."""

    lease: Id
    reason: str = ""


class LeaseLost(Message, tag="lease_lost"):
    """This lease is not (or no longer) yours: drop the work, another attempt owns the task."""

    lease: Id


class ResultAck(Message, tag="result_ack"):
    lease: Id


class FailedAck(Message, tag="failed_ack"):
    lease: Id


class Reconnect(Message, tag="reconnect"):
    after_s: float


class Problem(Message, tag="problem"):
    """A message could not be used; `code` is stable, `detail` is for the worker's log, `offer` the one it is about."""

    code: str
    detail: str = ""
    offer: str | None = None


class Ack(Message, tag="ack"):
    """Nothing to say but the `ack` that rides in every message."""


ToWorker = (
    Welcome | Offer | Assign | Watching | Cancel | LeaseLost | ResultAck | FailedAck | Drain | Reconnect | Problem | Ack
)


# --- browser -> hub ---------------------------------------------------------------------------------------------


class Request(Struct, kw_only=True):
    """What all browser messages share: an `id` that the one reply carries."""

    id: str | int


class Auth(Request, tag="auth"):
    token: str


class Subscribe(Request, tag="subscribe"):
    topic: Annotated[str, Meta(max_length=200)]
    after: Annotated[str, Meta(max_length=16_000)] | None = None


class Unsubscribe(Request, tag="unsubscribe"):
    topic: Annotated[str, Meta(max_length=200)]


class Ping(Request, tag="ping"):
    pass


FromBrowser = Auth | Subscribe | Unsubscribe | Ping
BROWSER_WORDS = frozenset(str(kind.__struct_config__.tag) for kind in (Auth, Subscribe, Unsubscribe, Ping))


# --- hub -> browser ---------------------------------------------------------------------------------------------


class Reply(Struct, kw_only=True):
    """The one answer to a browser message, by its `id`."""

    id: str | int
    v: int = 1


class Authed(Reply, tag="authed"):
    user: str


class Joined(Struct, kw_only=True, tag="subscribed"):
    """`recovered`: what was missed is in `events`, in order; otherwise `snapshot` replaces what the client had."""

    topic: str
    epoch: str
    offset: int
    recovered: bool
    snapshot: Any = None
    events: list[Any] = []
    v: int = 1


class Subscribed(Joined, kw_only=True, tag="subscribed"):
    """The same, as the reply to `subscribe`."""

    id: str | int


class Unsubscribed(Reply, tag="unsubscribed"):
    topic: str


class Pong(Reply, tag="pong"):
    pass


class Refused(Reply, tag="error"):
    code: str
    detail: str = ""


class Farewell(Struct, kw_only=True, tag="farewell"):
    """The hub ends the connection: why, and after how many seconds to come back, where it says so."""

    code: int
    reason: str
    reconnect_after: float | None = None
    v: int = 1


class Picture(Struct, kw_only=True, frozen=True, tag="preview"):
    """The header of a picture on its way to viewers; `number` grows with each picture of this hub."""

    topic: str
    id: str
    attempt: int
    kind: str
    frame: int | None
    content_type: str
    number: int
    at: str
    v: int = 1


class Event(Struct, kw_only=True, frozen=True, gc=False):
    """One live event, the same bytes on every transport; `type` is one of the words in `EVENT_TYPES`."""

    type: str
    topic: str
    epoch: str
    offset: int
    at: str
    data: Any
    v: int = 1


CREATED, ASSIGNED, PROGRESSED, RELEASED = "created", "assigned", "progressed", "released"
COMPLETED, FAILED, CANCELLED, UPDATED, DELETED = "completed", "failed", "cancelled", "updated", "deleted"
EVENT_TYPES = (CREATED, ASSIGNED, PROGRESSED, RELEASED, COMPLETED, FAILED, CANCELLED, UPDATED, DELETED)
MERGED, PREVIEW = "merged", "preview"  # what was left out for one who was slow; a picture


class Merged(Struct, kw_only=True, frozen=True):
    """Data of a `merged` event: it stands for the events from `first` to its own offset, which newer ones replace."""

    first: int


T = TypeVar("T")
encoder = msgspec.json.Encoder()
from_worker = msgspec.json.Decoder(FromWorker)
to_worker = msgspec.json.Decoder(ToWorker)
from_browser = msgspec.json.Decoder(FromBrowser)


class BadMessage(Exception):
    """Bytes that are no message of this protocol; the text says where and why."""


def encode(message: Struct) -> bytes:
    """JSON in UTF-8, with the "type" tag."""
    return encoder.encode(message)


def decode(decoder: msgspec.json.Decoder[T], raw: bytes | str) -> T:
    """Decode and validate one message.

    Raises:
        BadMessage: not JSON, an unknown type, a missing or wrong field, or nested too deep.
    """
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise BadMessage(str(error)) from None
