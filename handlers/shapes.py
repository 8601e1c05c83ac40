"""What answers look like, as types: /openapi.json tells it from here, and tests hold real answers against it.

Owns the description only. The answers themselves are put together where they are given, mostly in hub/views.py; nothing
makes or reads one of these.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from hub import media, messages, task, upload
from hub.account import Role

from .problems import WORDS

T = TypeVar("T")

Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Link = Annotated[str, Meta(description="signed, relative to the hub", extra_json_schema={"format": "uri-reference"})]
Bytes = Annotated[int, Meta(ge=0, description="bytes")]
Seconds = Annotated[float, Meta(ge=0, description="seconds")]
Count = Annotated[int, Meta(ge=0)]
Percent = Annotated[float, Meta(ge=0, le=100)]


def one_of(words: Iterable[str]) -> Meta:
    """Makes a text one of these words."""
    return Meta(extra_json_schema={"enum": [str(word) for word in words]})


Code = Annotated[str, one_of(WORDS)]
TaskState = Annotated[str, one_of(task.State)]
TaskPhase = Annotated[str, one_of(task.PHASES)]


# --- problems and lists -----------------------------------------------------------------------------------------


class FieldProblem(Struct):
    """One bad field: `pointer` is a JSON pointer (RFC 6901)."""

    pointer: str
    code: str
    detail: str


class Problem(Struct, kw_only=True):
    """Every refusal (RFC 9457). Programs decide on `code`; `title` and `detail` follow Accept-Language."""

    type: str
    title: str
    status: Annotated[int, Meta(ge=400, le=599)]
    detail: str
    instance: str
    code: Code
    request_id: str
    errors: list[FieldProblem] | UnsetType = UNSET


class OlderProblem(Problem):
    """The same with the words of the older dialect; `message` is `detail` again."""

    success: Literal[False]
    message: str


class Page(Struct, Generic[T]):
    """Part of a list: `next` is the cursor of the part that follows, null after the last."""

    items: list[T]
    next: str | None


# --- accounts ---------------------------------------------------------------------------------------------------


class User(Struct):
    id: str
    email: str
    name: str
    role: Role
    created_at: Time


class Me(Struct):
    user: User


class SignedIn(Me):
    """Send `token` in the Authorization header, as a Bearer token."""

    token: str
    expires_at: Time


# --- files ------------------------------------------------------------------------------------------------------


class Span(Struct):
    """Seconds that are roughly known: in half and in nine out of ten cases it is done by then."""

    p50: Seconds
    p90: Seconds


class Facts(Struct, kw_only=True):
    """What the hub measured, null while it has not: pixels as shown, a fraction of pictures a second, degrees."""

    width: Count | None
    height: Count | None
    fps: str | None
    frames: Count | None
    duration: Seconds | None
    rotation: int | None
    codec: str | None
    has_audio: bool | None
    variable_frame_rate: bool | None


class Media(Facts, kw_only=True):
    """A video or background of a user's; `strip_url` is for videos."""

    id: str
    name: str
    size: Bytes
    sha256: str
    md5: str
    state: Literal["ready", "checking"]
    content_url: Link
    poster_url: Link
    strip_url: Link | None
    created_at: Time


class Verdict(Struct):
    """What a model would make of a video: `reason` is null, or why it is not ready or has no estimate."""

    name: str
    seconds: Span | None
    ready: bool
    reason: Literal["too_many_pixels", "too_many_frames", "no_worker_for_model", "paused", "no_estimate"] | None


class JudgedMedia(Media, kw_only=True):
    """A file on its own; a video comes with what each model would make of it."""

    models: list[Verdict] | UnsetType = UNSET


class VideoCheck(Struct):
    exists: bool
    video: Media | None


class BackgroundCheck(Struct):
    exists: bool
    background: Media | None


class ShortProblem(Struct):
    code: str
    detail: str


class Upload(Struct, kw_only=True):
    """An upload; its id becomes the media's id. `problem` says why it was rejected."""

    id: str
    purpose: Annotated[str, one_of(media.Purpose)] | None
    offset: Bytes | None
    length: Bytes | None
    state: Annotated[str, one_of(upload.State)]
    sha256: str | UnsetType = UNSET
    problem: ShortProblem | UnsetType = UNSET


class SizeQuota(Struct):
    limit: Bytes
    used: Bytes
    reserved: Bytes


class Quota(Struct):
    limit: Count
    used: Count


class UploadLimits(Struct):
    """What a user may still upload; an upload that gets no bytes for `expires_in` is deleted."""

    file_size: Bytes
    size: SizeQuota
    files: Quota
    uploads: Quota
    expires_in: Seconds


# --- tasks ------------------------------------------------------------------------------------------------------


class Model(Struct):
    """A model that users can choose; null is a speed that is not known yet, or a limit that there is not."""

    name: str
    alias: str
    description: str
    workers_ready: Count
    seconds_per_megapixel_frame: Seconds | None
    max_pixels: Count | None
    max_frames: Count | None


class Source(Facts, kw_only=True):
    """A file that a task is made of, as it was when the task was ordered."""

    id: str
    name: str
    size: Bytes
    content_url: Link
    poster_url: Link


class Output(Struct):
    url: Link
    download_url: Link
    name: str
    size: Bytes
    sha256: str
    frames: Count


class Result(Struct, kw_only=True):
    video: Output
    mask: Output | UnsetType = UNSET
    foreground: Output | UnsetType = UNSET


class Gone(Struct):
    reason: Literal["expired"]
    at: Time


class Task(Struct, kw_only=True):
    """A task; `cursor` is where its live topic stands, `eta` seconds until it is done, `blocked_by` why it waits."""

    id: str
    state: TaskState
    phase: TaskPhase | None
    progress: Percent
    message: str
    attempt: Count
    version: Count
    model: str
    video: Source
    background: Source | None
    options: dict[str, str | bool | int | float]
    priority: int
    position: Count | None
    blocked_by: Literal["no_worker_for_model", "paused", "your_limit", "all_busy"] | None
    eta: Span | None
    worker: str | None
    result: Result | None
    result_expires_at: Time | None
    result_gone: Gone | None
    problem: ShortProblem | None
    created_at: Time
    started_at: Time | None
    ended_at: Time | None
    cursor: str


# --- live and workers -------------------------------------------------------------------------------------------


class Ticket(Struct):
    """Opens one live connection, once."""

    ticket: str
    expires_in: Seconds


class LivePoll(Struct):
    """What came after the cursor in each topic; ask again with `cursor`."""

    v: int
    cursor: str
    topics: list[messages.Joined]
    previews: list[messages.Event]


class TaskEvents(Struct, kw_only=True):
    """What happened to one task; ask again with `cursor`. Where not `recovered`, `snapshot` is the task as it is."""

    v: int
    cursor: str
    topic: str
    epoch: str
    offset: int
    recovered: bool
    snapshot: Any
    events: list[messages.Event]


class Polled(Struct):
    """What the hub says; `ack` is the last number of the worker's messages that it has handled."""

    session: str
    messages: list[messages.ToWorker]
    ack: Count


class OlderHeartbeat(Struct):
    Identification: str
    interfaceAddress: str


class OlderCallback(Struct):
    """`status` in any case of letters; `workerUrl` may be left out where the address called carries the lease."""

    Identification: str
    taskId: str
    status: Literal["PENDING", "PROCESSING", "COMPLETED", "FAILED"]
    workerUrl: str | UnsetType = UNSET
    progress: Percent | str | None = None
    message: Any = None


class OlderAnswer(Struct):
    success: Literal[True]
    message: str


class OlderFileTaken(OlderAnswer):
    id: str
    sha256: str
    size: Bytes


def schemas(kinds: list[Any], prefix: str = "") -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The JSON schemas (2020-12) of types, and the components that they refer to, each under a name with `prefix`."""
    told, components = msgspec.json.schema_components(kinds, ref_template=f"#/components/schemas/{prefix}{{name}}")
    return list(told), {f"{prefix}{name}": schema for name, schema in components.items()}
