"""Interface services in the older dialect, each as a session like any other worker's.

Owns the conversation on such a service's behalf: it accepts what is offered, hands tasks over by POST, turns callbacks
into reports and collects the files. Decides nothing: what a report means for a task is the core's.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog
from msgspec.structs import replace

from hub import messages, seed
from hub.effects import Delete, Effect, Save
from hub.errors import Conflict, DiskFull, HubError, Invalid, NotFound, TooLarge, Unavailable
from hub.ids import new_id
from hub.interface import Interface
from hub.media import UNSEEN, Media, Purpose, compare
from hub.messages import PROTOCOL, Accept, Artifact, Assign, Bye, Failed, Hello, Offer, Progress, Renew, Result, Status
from hub.seed import Callback, Said, SeedJob
from hub.task import Task

from . import outbound
from .answers import Rooms
from .outbound import NotReached
from .shared_files import Places, SharedFiles
from .worker_line import Line

log = structlog.get_logger(__name__)

ACCEPT_S = 30.0  # seconds in which a service must say whether it takes a task
MAX_KEPT = 200  # jobs that are looked for when a service comes back: more than it has slots
MAX_REPLY = 64 * 1024  # bytes of what it says then
TRIES, PAUSE_S = 3, 1.0  # to take a result that the hub fails to take; each makes the pause five times as long
QUIET = 12  # times STALL_SECONDS that a service may say nothing of a task, if it has said nothing of any before its end


@dataclass(slots=True)
class Job:
    """One task in a service's hands; `taken` is set once it has said so, `reported_at` when it last spoke of it."""

    record: SeedJob
    task: Task
    reported_at: float
    reported: bool = False
    taken: asyncio.Event = field(default_factory=asyncio.Event)


class SeedService:
    """One interface service in the older dialect; a transport of the session that it makes for the service.

    `heard_at` is when the service last gave a sign of life.
    """

    def __init__(self, rooms: Rooms, interface: Interface) -> None:
        self.rooms = rooms
        self.interface = interface
        self.shared = SharedFiles(rooms)
        self.line = Line(rooms, interface, self)
        self.instance = new_id()
        self.jobs: dict[str, Job] = {}
        self.heard_at = self.renewed_at = rooms.clock.now()
        self.number = 0
        self.handled = 0
        self.closed = False
        self.talks = interface.talks

    # --- presence -----------------------------------------------------------------------------------------------

    def join(self, kept: list[SeedJob]) -> None:
        """Open a session, or tell an open one what the service can do now; `kept` are jobs of an earlier one."""
        core = self.rooms.runner.core
        for record in kept:
            job = self.jobs[record.id] = Job(record, core.lease_of(record.id), self.heard_at)
            job.taken.set()
        self.line.join(Hello(
            protocol=PROTOCOL, worker=self.interface.id, instance=self.instance, slots=self.interface.slots,
            models=[seed.model_of(text) for text in self.interface.models or self.rooms.settings.interface_models],
            running=list(self.jobs), last_seen=self.handled,
        ))
        for record in kept:
            if record.done:
                self.rooms.runner.own(self.collect(self.jobs[record.id]))

    def describe(self, interface: Interface) -> None:
        """An admin has changed what is known of the service."""
        before, self.interface = self.interface, interface
        if (before.models, before.slots) != (interface.models, interface.slots):
            self.join([])

    def heard(self) -> None:
        """A sign of life: the service and its tasks may go on."""
        self.heard_at = self.rooms.clock.now()
        self.renew()

    def watch(self) -> None:
        """Called again and again: keep the session alive as long as the service is, and end it then."""
        now = self.rooms.clock.now()
        for job in self.jobs.values():  # many say no numbers, or nothing before the end: `patience` is their limit
            self.rooms.runner.core.work.pacing.moved(job.record.task_id, now)
        if now - self.heard_at > self.rooms.settings.heartbeat_timeout:
            log.info("interface_offline", worker=self.interface.id)
            self.leave()
        elif now - self.renewed_at > self.rooms.runner.core.rules.renew_s:
            self.renew()

    def renew(self) -> None:
        """Speak for the service, which may be silent between two heartbeats."""
        self.renewed_at = now = self.rooms.clock.now()
        patience = self.rooms.settings.stall_seconds * (1 if self.talks else QUIET)
        self.say(Status())
        for job in list(self.jobs.values()):
            if now - job.reported_at < patience or job.record.done:
                self.say(Renew(lease=job.record.id))
            else:
                detail = f"nothing heard of it for {patience:.0f} s"
                self.say(Failed(lease=job.record.id, code="no_report", detail=detail))

    def leave(self) -> None:
        """The service is not there any more: its tasks are free at once."""
        self.say(Bye())
        for lease in list(self.jobs):
            self.drop(lease)

    # --- a transport of the session -----------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """What the hub says; handled in the loop's next turn, because the hub is in the midst of carrying out."""
        asyncio.get_running_loop().call_soon(self.handle, messages.decode(messages.to_worker, data))

    def close(self, code: int, reason: str) -> None:
        self.closed = True

    def handle(self, message: Any) -> None:
        """Act as the service would."""
        self.handled = message.n
        match message:
            case Offer():
                self.say(Accept(offer=message.offer))
            case Assign():
                task = self.rooms.runner.core.tasks.get(message.task)
                if task is None or task.lease is None or task.lease.id != message.lease:
                    return
                record = SeedJob(message.lease, message.task, self.interface.id, version=0)
                job = self.jobs[message.lease] = Job(record, task, self.rooms.clock.now())
                self.rooms.runner.own(self.hand_over(job, message))
            case messages.Cancel() | messages.LeaseLost() | messages.ResultAck() | messages.FailedAck():
                self.drop(message.lease)
            case messages.Problem():
                log.info("seed_problem", worker=self.interface.id, code=message.code, detail=message.detail)

    def receive(self, message: messages.Message) -> list[Effect]:
        """The core's answer to what the service says.

        Raises:
            NotFound: the session is gone.
        """
        self.number += 1
        numbered = msgspec.structs.replace(message, n=self.number, ack=self.handled)
        return self.rooms.runner.core.receive(self.line.session, numbered, self.rooms.clock.now())

    def say(self, message: messages.Message) -> None:
        """Report something that nobody waits for."""
        if self.closed:
            return
        try:
            self.rooms.runner.decide(self.receive(message))
        except NotFound:
            self.closed = True

    # --- handing over -------------------------------------------------------------------------------------------

    async def hand_over(self, job: Job, assign: Assign) -> None:
        """Give a task to the service; where it does not take it, the task waits again."""
        lease = assign.lease
        try:
            places = await self.shared.prepare(job.task, lease)
            if lease not in self.jobs:
                return await self.shared.remove(lease)
            order = msgspec.json.encode(self.order(job.task, assign, places))
            status, answer = await outbound.post(
                f"{self.interface.address}{self.interface.path}", order, {"Content-Type": "application/json"},
                ACCEPT_S, MAX_REPLY, self.rooms.settings.interface_networks,
            )
            files = seed.read_reply(status, answer)
        except NotReached as error:
            if not job.reported:
                return self.refuse(lease, f"{self.interface.id} was not reached: {error}")
            files = {}  # it speaks of the task, so it has it, whatever became of its answer
        except (seed.Refused, HubError) as error:
            return self.refuse(lease, f"{self.interface.id} did not take it: {error}")
        except Exception:
            log.exception("seed_order_failed", worker=self.interface.id)
            return self.refuse(lease, "the hub could not hand it over")
        if lease in self.jobs:
            self.keep(job, files=files)
            job.taken.set()
            self.say(Renew(lease=lease))

    def order(self, task: Task, assign: Assign, places: Places) -> dict[str, Any]:
        """What the service is told of its task."""
        base = self.rooms.settings.api_base_url
        token = self.rooms.links.job_token(assign.lease)
        urls = {given.purpose: f"{base}{given.url}" for given in assign.inputs}
        offered = self.rooms.runner.core.models.get(task.model)
        return {
            "taskId": task.id,
            "videoPath": str(places.video),
            "foregroundPath": str(places.foreground),
            "backgroundPath": str(places.background) if places.background else None,
            "modelName": task.model,
            "modelAlias": offered.alias if offered is not None and offered.alias else task.model,
            "callbackUrl": f"{base}/api/tasks/callback?lease={token}",
            "workerUrl": self.interface.address,
            "videoUrl": urls[Purpose.VIDEO],
            "backgroundUrl": urls.get(Purpose.BACKGROUND),
            "resultUploadUrl": f"{base}/api/tasks/result?job={token}",
        }

    def refuse(self, lease: str, detail: str) -> None:
        log.info("seed_refused", worker=self.interface.id, lease=lease, detail=detail)
        self.say(Failed(lease=lease, code="refused", retryable=True, detail=detail[:seed.LONGEST_TEXT]))

    def keep(self, job: Job, **changes: Any) -> None:
        """Remember something of a job beyond this process's life."""
        before = job.record
        job.record = replace(before, version=before.version + 1, **changes)
        self.rooms.runner.decide([Save(job.record, before.version)])

    def drop(self, lease: str) -> None:
        """A job is over, in whatever way."""
        job = self.jobs.pop(lease, None)
        if job is None:
            return
        job.taken.set()
        self.rooms.runner.decide([Delete(SeedJob, lease)])
        self.rooms.runner.own(self.shared.remove(lease))

    # --- reports ------------------------------------------------------------------------------------------------

    async def told(self, job: Job, callback: Callback) -> None:
        """The service speaks of a task; returns when what must not be lost is durable.

        Raises:
            Conflict: it has said that the task is completed, and now it says failed.
            Unavailable: the database does not answer.
        """
        runner, lease = self.rooms.runner, job.record.id
        job.reported, job.reported_at, self.heard_at = True, self.rooms.clock.now(), self.rooms.clock.now()
        if not self.talks and callback.said in (Said.PENDING, Said.PROCESSING):
            self.talks = True
            record = replace(self.interface, talks=True, version=self.interface.version + 1)
            runner.decide([Save(record, self.interface.version)])  # the registry notices; where it is lost, no harm
        match callback.said:
            case Said.PENDING:
                self.say(Renew(lease=lease))
            case Said.PROCESSING:
                self.say(Progress(
                    lease=lease, phase="segment", progress=callback.progress or 0.0, message=callback.message,
                ))
            case Said.FAILED:
                if job.record.done:
                    raise Conflict("the task was reported as completed")
                detail = callback.message or "the service did not say why"
                await runner.carry_out(self.receive(Failed(lease=lease, code="worker_error", detail=detail)))
            case Said.COMPLETED if not job.record.done:
                self.keep(job, done=True)
                runner.own(self.collect(job))
                await runner.carry_out([])  # durable once all before it is

    async def collect(self, job: Job) -> None:
        """Take in the files of a completed task and give the result to the core.

        Where the hub itself fails to take them, it tries again, not for ever; a database that is away is waited for.
        """
        await job.taken.wait()
        lease, failed = job.record.id, 0
        while lease in self.jobs:
            try:
                return self.say(Result(lease=lease, artifacts=await self.artifacts(job)))
            except (DiskFull, Unavailable) as error:
                if self.rooms.runner.healthy:
                    log.warning("seed_result_not_taken", worker=self.interface.id, lease=lease, detail=str(error))
                    failed += 1
            except HubError as error:
                code = error.code if error.code == "result_missing" else "result_not_taken"
                return self.say(Failed(lease=lease, code=code, detail=error.detail or error.code))
            except Exception:
                log.exception("seed_collect_failed", worker=self.interface.id)
                failed = TRIES
            if failed == TRIES:
                return self.say(Failed(lease=lease, code=UNSEEN, detail="the hub could not take the result"))
            await asyncio.sleep(PAUSE_S * 5 ** failed)

    async def artifacts(self, job: Job) -> list[Artifact]:
        """What was sent to the hub, or else what the service named, or else what lies in the job's place.

        Raises:
            Invalid: code result_missing.
            HubError: a file cannot be kept.
        """
        record, result, mask = job.record, Purpose.RESULT.value, Purpose.MASK.value
        made = dict(record.sent)
        if result not in made:
            path = record.files.get(result, str(self.shared.place(record.id)))
            made[result] = artifact_of(await self.shared.take(job.task, Purpose.RESULT, path))
            if record.id in self.jobs:
                self.keep(job, sent={**job.record.sent, result: made[result]})
        if mask not in made and mask in record.files:
            try:
                found = await self.shared.take(job.task, Purpose.MASK, record.files[mask])
            except (Invalid, TooLarge) as error:
                log.info("seed_mask_left_out", worker=self.interface.id, detail=error.detail)
            else:
                made[mask] = artifact_of(found)
        return [artifact for purpose, artifact in made.items() if purpose == result or await self.fits(job, artifact)]

    async def fits(self, job: Job, artifact: Artifact) -> bool:
        """Whether a file besides the result can stand beside it; one that cannot is left out, the task is not."""
        purpose = Purpose(artifact.purpose)
        try:
            facts, _ = await self.rooms.probe(self.rooms.files.path(purpose, artifact.sha256), purpose)
        except HubError as error:
            log.info("seed_mask_left_out", worker=self.interface.id, detail=error.detail)
            return False
        return compare(replace(job.task.video.facts, audio_codec=None), facts) is None


def artifact_of(record: Media) -> Artifact:
    """A kept file as a report names it."""
    return Artifact(record.purpose.value, record.id, record.sha256)


async def present(rooms: Rooms, interface: Interface) -> SeedService:
    """The service, which has just given a sign of life; with the tasks that an earlier session left in its hands."""
    if (service := service_of(rooms, interface.id)) is not None:
        return service
    runner = rooms.runner
    kept = await rooms.store.page(SeedJob, MAX_KEPT, worker=interface.id)
    if (service := service_of(rooms, interface.id)) is not None:
        return service
    live = [record for record in kept if runner.core.leases.get(record.id) == record.task_id]
    runner.decide([Delete(SeedJob, record.id) for record in kept if record not in live])
    service = SeedService(rooms, interface)
    service.join(live)
    return service


def service_of(rooms: Rooms, name: str) -> SeedService | None:
    """The service of this name, if it is here."""
    session = rooms.runner.core.session_of(name)
    transport = rooms.runner.transports.get(session.id) if session is not None else None
    return transport if isinstance(transport, SeedService) else None
