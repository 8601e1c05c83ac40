"""What each endpoint does, method by method: what it takes, what it answers and why it may refuse.

Owns what the code cannot say of itself; handlers/openapi joins it with what the code can: paths, methods, who may, and
the refusals that follow from those. A method that is not here stops the description from being made.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tornado.web import RequestHandler

from hub.messages import FromWorker

from . import (
    admin, admin_interfaces, admin_shapes, auth, content, creation, live, live_stream, media, metrics, ops, pages,
    previews, seed_calls, shapes, tasks, tus, tus_headers, worker_poll, worker_socket,
)

Media = dict[str, Any]  # media type -> schema


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of an endpoint.

    `reads` and `answers` are types, for JSON; `body` and `gives` are schemas by media type, for everything else.
    `refuses` has statuses, each followed by its codes. `takes` and `tells` name parameters and headers of the answer,
    `by` the ways to prove who asks, any of which will do; None: what the endpoint's `access` says. `also` are further
    good statuses, `fresh` answers have no ETag, `problem` is the form of refusals.
    """

    does: str
    answers: Any = None
    status: int = 200
    reads: Any = None
    refuses: str = ""
    takes: str = ""
    tells: str = ""
    by: str | None = None
    body: Media | None = None
    gives: Media | None = None
    also: dict[int, str] = field(default_factory=dict)
    fresh: bool = False
    problem: Any = shapes.Problem


class WorkerAsks(worker_poll.Poll):
    """A poll with the messages spelled out."""

    messages: list[FromWorker] = []  # type: ignore[assignment]


WIRE = (WorkerAsks, shapes.Polled)  # their parts have the names of messages

SECTIONS = {
    auth: "Accounts", media: "Videos and backgrounds", tus: "Uploads", tasks: "Tasks", content: "Files", live: "Live",
    live_stream: "Live", previews: "Live", worker_socket: "Workers", worker_poll: "Workers",
    seed_calls: "The older dialect", admin: "Admins", admin_interfaces: "Admins", ops: "Operators",
    metrics: "Operators", pages: "The page",
}
TEXT: dict[str, Any] = {"type": "string"}
BINARY: dict[str, Any] = {}  # anything: the bytes are no JSON
PICTURES: Media = {kind: BINARY for kind in ("image/jpeg", "image/webp")}
STREAM: Media = {"text/event-stream": TEXT}
PIECE: Media = {tus_headers.BODY: BINARY}
REFUSED_FILE = (
    "empty_file not_video not_picture truncated too_many_pixels no_video_stream unsupported_format animated heic svg "
    "no_frames too_many_frames probe_timeout probe_crashed probe_memory"
)
HAS_ALREADY = "Whether the user has this file already, by its MD5 or SHA-256."
PAGED = "limit cursor"
RANGED = "Range If-Range If-Match If-Modified-Since If-Unmodified-Since"
OPENED = "401 unauthorized job_token_invalid; 403 link_invalid link_expired; 409 lease_lost"
TUS = "401 unauthorized job_token_invalid; 409 lease_lost; 412 tus_version"


def form(*names: str) -> dict[str, Any]:
    """A form with one file under one of these names."""
    return {
        "type": "object", "properties": {name: BINARY for name in names} | {"name": TEXT},
        "description": f"One file, in a field named {' or '.join(names)}.",
    }


def file_in_one_request(name: str, kind: str) -> Operation:
    """POST of a file of a user's."""
    return Operation(
        f"Send a {name}, as the body or in a form; it has been looked into when the answer comes.", shapes.JudgedMedia,
        201, takes="name", tells="Location",
        body={kind: BINARY, "application/octet-stream": BINARY, "multipart/form-data": form("file", name)},
        refuses=f"400 bad_multipart; 413 too_large quota; 415 unsupported_media_type; 422 invalid {REFUSED_FILE}; "
                "429 too_many_uploads; 507 disk_full",
    )


def bytes_of(what: str) -> Operation:
    """GET of a stored file."""
    return Operation(
        f"The bytes of {what}.", takes=f"expires download {RANGED}", by="user link job",
        tells="ETag Last-Modified Content-Disposition Content-Range Repr-Digest",
        gives={kind: BINARY for kind in (*sorted(content.INLINE), "application/octet-stream")},
        also={206: "The parts that were asked for: one with Content-Range, several as multipart/byteranges."},
        refuses=f"{OPENED}; 412 precondition_failed; 416 unsatisfiable_range",
    )


OPERATIONS: dict[type[RequestHandler], dict[str, Operation]] = {  # a class stands for those that derive from it too
    # --- accounts
    auth.Register: {"POST": Operation(
        "Register, and sign in.", shapes.SignedIn, 201, auth.RegisterForm,
        "409 taken; 422 password_too_short password_too_long",
    )},
    auth.Login: {"POST": Operation(
        "Sign in.", shapes.SignedIn, reads=auth.LoginForm,
        refuses="401 bad_credentials; 403 account_disabled; 429 rate_limited",
    )},
    auth.Logout: {"POST": Operation("Sign out: the token is void.", status=204)},
    auth.Me: {"GET": Operation("Who is asking.", shapes.Me)},
    auth.Password: {"POST": Operation(
        "Change one's own password; all tokens issued before are void.", shapes.SignedIn, reads=auth.PasswordForm,
        refuses="401 bad_credentials; 422 password_too_short password_too_long; 429 rate_limited",
    )},
    # --- videos and backgrounds
    media.Collection: {"GET": Operation("The user's own.", shapes.Page[shapes.Media], takes=PAGED)},
    media.Videos: {"POST": file_in_one_request("video", "video/*")},
    media.Backgrounds: {"POST": file_in_one_request("background", "image/*")},
    media.Item: {
        "GET": Operation("One of them; a video comes with what each model would make of it.", shapes.JudgedMedia),
        "DELETE": Operation("Delete one.", status=204, refuses="409 in_use"),
    },
    media.VideoCheck: {"GET": Operation(HAS_ALREADY, shapes.VideoCheck)},
    media.BackgroundCheck: {"GET": Operation(HAS_ALREADY, shapes.BackgroundCheck)},
    # --- uploads: tus 1.0.0 (tus.io/protocols/resumable-upload)
    tus.TusEndpoint: {"OPTIONS": Operation(
        "What of tus the hub knows.", status=204, by="",
        tells="Allow Tus-Resumable Tus-Version Tus-Extension Tus-Checksum-Algorithm Tus-Max-Size",
    )},
    tus.Uploads: {"POST": Operation(
        "Begin an upload by tus, perhaps with its first bytes, or put finished parts together.", shapes.Upload, 201,
        takes="Tus-Resumable Upload-Length Upload-Defer-Length Upload-Metadata Upload-Concat Upload-Checksum",
        tells="Tus-Resumable Location Upload-Offset Upload-Expires", by="user job", body=PIECE,
        refuses=f"{TUS}; 400 bad_metadata bad_length bad_checksum; 404 not_found; 409 parts_unfinished; "
                "410 upload_gone; 413 too_large quota; 415 unsupported_media_type; 422 empty_file; "
                "429 too_many_uploads; 460 checksum_mismatch; 507 disk_full",
    )},
    tus.UploadLimits: {"GET": Operation("What the user may still upload.", shapes.UploadLimits)},
    tus.OneUpload: {
        "HEAD": Operation(
            "Where an upload stands (tus).", takes="Tus-Resumable", by="user job", refuses=f"{TUS}; 410 upload_gone",
            tells="Tus-Resumable Upload-Offset Upload-Length Upload-Defer-Length Upload-Metadata Upload-Concat "
                  "Upload-Expires",
        ),
        "PATCH": Operation(
            "More bytes from Upload-Offset on (tus); they are on the disk when the answer comes. Where PATCH, HEAD or "
            "DELETE cannot be sent, POST with X-HTTP-Method-Override does it. GET says what became of the file.",
            status=204, takes="Tus-Resumable Upload-Offset Upload-Checksum Upload-Length", by="user job", body=PIECE,
            tells="Tus-Resumable Upload-Offset Upload-Expires",
            refuses=f"{TUS}; 400 bad_offset bad_length bad_checksum; 403 upload_finished; 409 offset_mismatch "
                    "upload_resumed; 410 upload_gone; 413 too_large quota; 415 unsupported_media_type; 422 empty_file; "
                    "460 checksum_mismatch; 507 disk_full",
        ),
        "DELETE": Operation(
            "Give an upload up (tus).", status=204, takes="Tus-Resumable", tells="Tus-Resumable", by="user job",
            refuses=f"{TUS}; 403 upload_finished; 410 upload_gone",
        ),
        "GET": Operation(
            "What became of an upload.", shapes.Upload, by="user job", tells="Tus-Resumable",
            refuses="401 job_token_invalid; 409 lease_lost; 410 upload_gone",
        ),
    },
    # --- tasks
    tasks.Models: {"GET": Operation("The models to choose from, on one page.", shapes.Page[shapes.Model])},
    tasks.Tasks: {
        "GET": Operation("The user's tasks.", shapes.Page[shapes.Task], takes=f"{PAGED} state"),
        "POST": Operation(
            "Order a task; it is durable when the answer comes.", shapes.Task, 201, creation.TaskForm,
            "404 not_found; 409 running; 422 unknown_model does_not_fit key_reused", "Idempotency-Key",
            "Location Idempotency-Replayed",
        ),
    },
    tasks.OneTask: {
        "GET": Operation("A task.", shapes.Task),
        "DELETE": Operation(
            "Delete a task that has ended, with its results.", status=204, refuses="409 task_waiting task_processing",
        ),
    },
    tasks.CancelTask: {"POST": Operation(
        "Cancel a task; twice is harmless.", shapes.Task, refuses="409 task_completed task_failed",
    )},
    tasks.RetryTask: {"POST": Operation(
        "Let a failed or cancelled task wait again.", shapes.Task,
        refuses="409 task_waiting task_processing task_completed",
    )},
    # --- files
    content.VideoInput: {"GET": bytes_of("a video; the name is for people")},
    content.BackgroundInput: {"GET": bytes_of("a background; the name is for people")},
    content.Result: {"GET": bytes_of("a result")},
    content.Poster: {"GET": bytes_of("a small picture of a video, background or result")},
    content.Strip: {"GET": bytes_of("a JPEG with eight pictures of a video side by side")},
    # --- live
    live.LiveSocket: {"GET": Operation(
        "Live topics over a websocket, and with `topics` and no handshake as a long poll. On a websocket the client "
        "says who it is with its first message, if it has not with the handshake.", shapes.LivePoll,
        takes="topics cursor wait", by="user ticket", also={101: "A websocket."}, fresh=True,
        refuses="400 bad_query bad_request; 404 not_found; 426 upgrade_required; 429 rate_limited",
    )},
    live.Ticket: {"POST": Operation(
        "A word that opens one live connection, once.", shapes.Ticket, 201, refuses="429 rate_limited",
    )},
    live_stream.LiveStream: {"GET": Operation(
        "Live topics as server-sent events.", takes="topics after cursor Last-Event-ID", by="user ticket", gives=STREAM,
        refuses="400 bad_query; 404 not_found; 429 rate_limited",
    )},
    live_stream.TaskEvents: {"GET": Operation(
        "What happened to a task after a cursor: at once, after a wait, or as a stream.", shapes.TaskEvents,
        takes="after wait cursor Accept Last-Event-ID", gives=STREAM, refuses="400 bad_query; 429 rate_limited",
        fresh=True,
    )},
    previews.LastPreview: {"GET": Operation(
        "The last picture of a running task at which somebody looks: `original`, `mask` or `composite`.",
        takes="expires", by="user link", gives=PICTURES, refuses="403 link_invalid link_expired",
    )},
    # --- workers
    previews.WorkerPreview: {"POST": Operation(
        "A picture of what is worked on: one byte 1, four bytes with the length of a JSON header, header, picture.",
        status=204, by="worker", body={"application/octet-stream": BINARY}, refuses="413 too_large; 422 invalid",
    )},
    worker_socket.WorkerSocket: {"GET": Operation(
        "The worker protocol over a websocket.", status=101, takes="Sec-WebSocket-Protocol", by="worker",
        refuses="400 bad_request; 426 upgrade_required",
    )},
    worker_poll.WorkerPoll: {"POST": Operation(
        "The worker protocol in long polls; the first says hello, those that follow name the session.", shapes.Polled,
        reads=WorkerAsks, by="worker", refuses="403 unsupported_protocol; 409 session_gone",
    )},
    # --- the older dialect: who may is decided by a shared word in the body
    seed_calls.Heartbeat: {"POST": Operation(
        "An interface service in the older dialect is alive.", shapes.OlderAnswer, reads=shapes.OlderHeartbeat,
        refuses="400 bad_request; 403 forbidden; 429 rate_limited", problem=shapes.OlderProblem,
    )},
    seed_calls.TaskCallback: {"POST": Operation(
        "It reports on a task.", shapes.OlderAnswer, reads=shapes.OlderCallback, takes="lease",
        refuses="400 bad_request; 401 job_token_invalid; 403 forbidden; 404 not_found; 409 lease_lost",
        problem=shapes.OlderProblem,
    )},
    seed_calls.ResultUpload: {"POST": Operation(
        "It sends a file, as the body or in a form.", shapes.OlderFileTaken, 201, takes="purpose", by="job",
        tells="Upload-Offset",
        body={"application/octet-stream": BINARY, "multipart/form-data": form("file", "video", "result", "mask")},
        refuses="400 bad_multipart bad_metadata; 401 job_token_invalid; 409 lease_lost; 413 too_large; "
                f"422 invalid {REFUSED_FILE}; 507 disk_full", problem=shapes.OlderProblem,
    )},
    # --- admins
    admin.Pending: {"GET": Operation(
        "The waiting tasks, oldest first, each with the reason.", shapes.Page[admin_shapes.OwnedTask], takes=PAGED,
    )},
    admin.AllTasks: {"GET": Operation(
        "Everybody's tasks.", shapes.Page[admin_shapes.OwnedTask], takes=f"{PAGED} state owner",
    )},
    admin.CancelAnyTask: {"POST": Operation(
        "Cancel anybody's task.", admin_shapes.OwnedTask, refuses="409 task_completed task_failed",
    )},
    admin.RequeueTask: {"POST": Operation(
        "Let a task wait again, whatever became of it; a running attempt does not count.", admin_shapes.OwnedTask,
        refuses="409 task_completed",
    )},
    admin.Users: {"GET": Operation("All users.", shapes.Page[admin_shapes.KnownUser], takes=PAGED)},
    admin.OneUser: {"PATCH": Operation(
        "Give a user another role, or shut one out.", admin_shapes.KnownUser, reads=admin.UserChanges,
        refuses="409 last_admin conflict",
    )},
    admin.AllModels: {"GET": Operation("Every model, on one page.", shapes.Page[admin_shapes.OfferedModel])},
    admin.OneModel: {
        "DELETE": Operation("Forget a model that nobody offers any more.", status=204, refuses="409 model_offered"),
    },
    admin.Stats: {"GET": Operation("How much there is of everything.", admin_shapes.Stats)},
    admin_interfaces.AllInterfaces: {"GET": Operation(
        "The registered interface services, by name.", shapes.Page[admin_shapes.Interface], takes=PAGED,
    )},
    admin_interfaces.Interfaces: {"POST": Operation(
        "Register an interface service; its secrets are told this once.", admin_shapes.MadeInterface, 201,
        admin_interfaces.NewInterface, "409 name_taken; 422 bad_url", tells="Location",
    )},
    admin_interfaces.OneInterface: {
        "PATCH": Operation(
            "Change what an interface service may, or how it is called.", admin_shapes.Interface,
            reads=admin_interfaces.InterfaceChanges, refuses="409 name_taken conflict; 422 bad_url",
        ),
        "DELETE": Operation("Shut an interface service out, and forget it.", status=204),
    },
    admin_interfaces.RotateToken: {"POST": Operation(
        "A new token; the old one opens no new connection.", admin_shapes.Secrets, refuses="409 conflict",
    )},
    # --- operators
    ops.Livez: {"GET": Operation("Whether the process answers.", admin_shapes.Alive)},
    ops.Readyz: {"GET": Operation(
        "Whether what is decided becomes durable.", admin_shapes.Ready, refuses="503 unavailable",
    )},
    ops.Version: {"GET": Operation("Which version this is.", admin_shapes.Version)},
    ops.Description: {"GET": Operation("This description.", dict[str, Any])},
    metrics.MetricsPage: {"GET": Operation(
        "Numbers for Prometheus.", by="admin monitoring", gives={"text/plain": TEXT},
    )},
    pages.Page: {"GET": Operation(
        "The page, and what it loads; a path may have many parts.", tells="ETag Last-Modified", gives={"*/*": BINARY},
    )},
}


def operation_of(kind: type[RequestHandler], method: str) -> Operation | None:
    """What is written down of a method, for the endpoint itself or a class that it derives from."""
    found = (OPERATIONS.get(each, {}).get(method) for each in kind.__mro__)
    return next((operation for operation in found if operation is not None), None)
