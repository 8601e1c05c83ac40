"""The intervals and limits of the machine, in one place."""

from __future__ import annotations

from msgspec import Struct


class Rules(Struct, frozen=True):
    """All times are seconds.

    A worker's lease lasts `lease_s` and is renewed every `renew_s`; it says something every `heartbeat_s`; an offer
    stands for `offer_s`; a slot whose work was called off is free after `stop_s` at the latest. A task that gets no
    further for `stall_s` is taken away. A failure is tried again after the next of `backoff_s`, spread by `jitter`
    (a share of it), at most `max_attempts` times in all; a task that ends `quarantine_workers` different workers is
    not tried again; a worker on which tasks of `suspect_after` users fail in a row is paused. Of one user `user_cap`
    tasks run at once (0: any number). Progress is stored and shown at most so often; a clock that skips `pause_s`
    means that the hub itself was away.
    """

    lease_s: float = 120.0
    renew_s: float = 30.0
    heartbeat_s: float = 60.0
    offer_s: float = 5.0
    stop_s: float = 30.0
    stall_s: float = 900.0
    max_attempts: int = 3
    backoff_s: tuple[float, ...] = (5.0, 30.0, 120.0)
    jitter: float = 0.2
    quarantine_workers: int = 2
    suspect_after: int = 5
    user_cap: int = 0
    save_every_s: float = 1.0
    publish_every_s: float = 0.25
    pause_s: float = 5.0
