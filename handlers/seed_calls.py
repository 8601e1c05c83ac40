"""What interface services in the older dialect call: heartbeats, callbacks, and the way in for results without a share.

Thin: the service itself is in worker_seed. Errors are problems like everywhere, with the dialect's `success` and
`message` beside their own fields.
"""

from __future__ import annotations

import hmac
from typing import Any
from urllib.parse import urlsplit

import msgspec

from hub import parsing, seed
from hub.effects import Save
from hub.errors import Conflict, Forbidden, HubError, Invalid, NotFound, RateLimited
from hub.interface import DEFAULT_PATH, Interface, hash_token, new_token
from hub.media import WORKER_PURPOSES, Purpose
from hub.seed import Callback, Said
from hub.task import State, Task

from .base import OBJECT_ID, Endpoint
from .multipart import FormReader
from .outbound import check_address
from .tus_headers import read_metadata
from .uploads import FORM_OVERHEAD, Receiving
from .worker_seed import Job, SeedService, artifact_of, present, service_of

MAX_SAID = 128 * 1024  # a little more than Express took
MAX_PENDING = 100  # unknown services that wait for an admin at once


class SeedEndpoint(Endpoint):
    """What all calls in the older dialect share."""

    access = "anyone"  # who may is decided by the shared Identification, or a job token
    max_body = MAX_SAID

    def as_problem(self, error: HubError) -> bytes:
        """A problem that old services understand too."""
        problem = msgspec.json.decode(super().as_problem(error))
        return msgspec.json.encode({**problem, "success": False, "message": problem["detail"]})

    def agree(self, message: str, status: int = 200, **more: Any) -> None:
        self.answer({"success": True, "message": message, **more}, status)

    def said(self) -> dict[str, Any]:
        """The body, from somebody who knows the shared Identification.

        Raises:
            Invalid, Unsupported: as seed.read_said has it; or there is no Identification.
            Forbidden: the Identification is not ours.
        """
        said = seed.read_said(self.request.headers.get("Content-Type", ""), bytes(self.received))
        given, ours = seed.text_of(said, "Identification"), self.rooms.settings.interface_identification
        if not ours or not hmac.compare_digest(given.encode(), ours.encode()):
            raise Forbidden("the Identification is not ours")
        return said


class Heartbeat(SeedEndpoint):
    """POST /api/tasks/interface/heartbeat: a service is alive; one that nobody knows appears as pending."""

    async def post(self) -> None:
        said = self.said()
        text = seed.text_of(said, "interfaceAddress")
        try:
            address = parsing.url(text.strip())
        except ValueError as error:
            raise seed.bad("interfaceAddress", f"an http address ({error})") from None
        interface = await self.known(address) or await self.register(address.removesuffix(DEFAULT_PATH))
        if interface.pending:
            return self.agree("waiting for an admin to let this service in")
        if not interface.enabled:
            return self.agree("an admin has disabled this service")
        if interface.dialect != "seed":
            return self.agree("this service is registered for another dialect")
        (await present(self.rooms, interface)).heard()
        self.agree("heartbeat taken")

    async def known(self, address: str) -> Interface | None:
        """The service that calls itself this, however it was written down."""
        names = seed.spellings(address)
        found = await self.rooms.store.page(Interface, len(names), address=names)
        found.sort(key=lambda record: record.address != address)
        return next((record for record in found if seed.means(address, record.address or "", record.path)), None)

    async def register(self, address: str) -> Interface:
        """Write an unknown service down, to be let in by an admin.

        Raises:
            Invalid: code bad_request: the hub would never call that address.
            RateLimited: too many wait already.
        """
        rooms = self.rooms
        try:
            check_address(address, rooms.settings.interface_networks)
        except Invalid as error:
            raise seed.bad("interfaceAddress", f"one that may be called ({error.detail})") from None
        rooms.runner.check_ready()
        pending = not rooms.settings.auto_register_interfaces
        if pending and await rooms.store.count(Interface, pending=True) >= MAX_PENDING:
            raise RateLimited("too many services wait for an admin")
        name = seed.name_of(address)
        if await rooms.store.get(Interface, name) is not None:
            name = seed.another_name(name, address)
        made = Interface(
            name, hash_token(new_token()), rooms.clock.wall(), pending=pending, dialect="seed", address=address,
        )
        try:
            await rooms.runner.carry_out([Save(made, 0)])
        except Conflict:  # two heartbeats at once
            return await rooms.store.find(Interface, address=address) or made
        return made


class TaskCallback(SeedEndpoint):
    """POST /api/tasks/callback and /api/task/callback: what a service says of a task."""

    async def post(self) -> None:
        said = self.said()
        token = self.get_query_argument("lease", "")
        lease = self.rooms.links.lease_of(token) if token else None
        callback = seed.read_callback(said, lease is not None)
        task = await self.task(callback.task_id)
        if lease is None:
            lease = await self.current_lease(task, callback)
        service, job = await self.job(task, lease)
        if job is None or service is None:
            self.check_repeated(task, lease, callback)
            return self.agree("this was reported before")
        await service.told(job, callback)
        self.agree("callback taken")

    async def task(self, id: str) -> Task:
        """Raises NotFound where there is no such task."""
        core = self.rooms.runner.core
        task = core.tasks.get(id)
        if task is None and OBJECT_ID.fullmatch(id):
            task = await self.rooms.store.get(Task, id)
        if task is None:
            raise NotFound("there is no such task")
        return core.work.newest(task)

    async def current_lease(self, task: Task, callback: Callback) -> str:
        """The lease of a task for a service that says no more than its own address; "" if it has none.

        Raises:
            Conflict: code lease_lost: another service has the task.
        """
        record = await self.rooms.store.get(Interface, task.worker) if task.worker else None
        if record is None or not is_itself(record, callback.worker_url or ""):
            raise Conflict("this service does not have the task", code="lease_lost")
        now = self.rooms.runner.core.tasks.get(task.id, task)
        return now.lease.id if now.lease is not None else ""

    async def job(self, task: Task, lease: str) -> tuple[SeedService | None, Job | None]:
        """The job under a lease, if that is current; its service is here, or was away and has just come back."""
        core = self.rooms.runner.core
        if core.leases.get(lease) != task.id or task.worker is None:
            return None, None
        service = service_of(self.rooms, task.worker)
        if service is None:
            record = await self.rooms.store.get(Interface, task.worker)
            if record is None or record.dialect != "seed" or not record.enabled:
                return None, None
            service = await present(self.rooms, record)
        return service, service.jobs.get(lease)

    def check_repeated(self, task: Task, lease: str, callback: Callback) -> None:
        """Let a report pass that says again what ended its attempt; it changes nothing.

        Raises:
            Conflict: code lease_lost: the attempt is over, in another way.
        """
        finished = self.rooms.runner.core.work.finished
        if callback.said is Said.COMPLETED:
            counted = lease not in finished or isinstance(finished[lease], tuple)
            repeated = task.state is State.COMPLETED and counted
        else:
            repeated = callback.said is Said.FAILED and finished.get(lease) == "worker_error"
        if not repeated:
            raise Conflict("this attempt is over", code="lease_lost")


class ResultUpload(Receiving, SeedEndpoint):
    """POST /api/tasks/result?job=TOKEN: a finished file as the body, in a form, or as one tus upload."""

    form_reader: FormReader | None = None

    async def admit(self) -> None:
        self.lease = self.rooms.links.lease_of(self.get_query_argument("job", ""))
        _, job = self.job()
        self.rooms.runner.check_ready()
        headers = self.request.headers
        purpose = self.get_query_argument("purpose", "")
        if not purpose and "Upload-Metadata" in headers:
            purpose = read_metadata(headers["Upload-Metadata"]).get("purpose", "")
        self.purpose_said = bool(purpose)
        purpose = purpose or Purpose.RESULT
        if purpose not in WORKER_PURPOSES:
            raise Invalid(f"purpose is one of {', '.join(sorted(WORKER_PURPOSES))}", code="bad_metadata")
        limit = self.rooms.settings.result_file_size_limit
        content_type = headers.get("Content-Type", "")
        if content_type.split(";")[0].strip().lower() == "multipart/form-data":
            self.form_reader = FormReader(content_type, ("file", "video", "result", "mask"))
        self.check_length(limit + FORM_OVERHEAD if self.form_reader else limit)
        await self.begin(
            Purpose(purpose), limit, self.form_reader is None, owner=job.task.owner, lease=self.lease,
            task_id=job.task.id,
        )

    def job(self) -> tuple[SeedService, Job]:
        """The job that the token speaks for.

        Raises:
            Conflict: code lease_lost: it is over.
        """
        task = self.rooms.runner.core.lease_of(self.lease)
        service = service_of(self.rooms, task.worker or "")
        job = service.jobs.get(self.lease) if service is not None else None
        if service is None or job is None:
            raise Conflict("this lease is over", code="lease_lost")
        return service, job

    async def take(self, chunk: bytes) -> None:
        await super().take(chunk if self.form_reader is None else self.form_reader.feed(chunk))

    async def post(self) -> None:
        assert self.reception is not None
        try:
            if self.form_reader is not None and self.form_reader.close().field == "mask" and not self.purpose_said:
                self.reception.call(purpose=Purpose.MASK)
            self.job()
        except HubError:
            await self.give_up()
            raise
        record = await self.conclude()
        service, job = self.job()
        service.keep(job, sent={**job.record.sent, record.purpose.value: artifact_of(record)})
        service.heard()
        await self.rooms.runner.carry_out([])
        self.set_header("Upload-Offset", str(record.size))
        self.agree("file taken", 201, id=record.id, sha256=record.sha256, size=record.size)


def is_itself(record: Interface, given: str) -> bool:
    """Whether a service means itself: in any spelling of its address, with or without a path behind it."""
    try:
        address = parsing.url(given.strip())
    except ValueError:
        return False
    ours, split = record.address or "", urlsplit(address)
    return any(seed.means(each, ours, record.path) for each in (address, f"{split.scheme}://{split.netloc}"))


ROUTES = [  # in any case of letters, with or without a slash behind them, as Express took them
    (r"(?i)/api/tasks/interface/heartbeat/?", Heartbeat),
    (r"(?i)/api/tasks/callback/?", TaskCallback),
    (r"(?i)/api/task/callback/?", TaskCallback),
    (r"(?i)/api/tasks/result/?", ResultUpload),
]
