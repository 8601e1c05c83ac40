"""Celery as a peer: the task that its eight worker processes run and, as a program, the creators.

As a program it answers each line on stdin with a line of JSON: "sustained N" with the seconds from the first creation
until the last acknowledgement, "idle N" with N times to a worker's start. Runs under Celery's own Python.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import redis
from celery import Celery

CREATORS = 8  # threads of one process: 4 to 16 were alike

path = sys.argv[1] if __name__ == "__main__" else os.environ["BENCH_REDIS"]
app = Celery("bench", broker=f"redis+socket://{path}")
app.conf.update(
    task_acks_late=True, task_ignore_result=True, worker_prefetch_multiplier=8, broker_pool_limit=CREATORS + 2,
)
reports = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
STARTS = str(Path(path).with_name("starts.sock"))


@app.task(name="noop")
def noop(video: str, told: bool = False) -> None:
    """No work; when it should be told, the time of the start goes to whoever measures (one clock for all processes)."""
    if told:
        reports.sendto(repr(time.monotonic()).encode(), STARTS)


def settled(store: redis.Redis) -> bool:
    """Whether nothing waits and nothing is unacknowledged."""
    with store.pipeline() as both:
        return not any(both.llen("celery").hlen("unacked").execute())


def until_settled(store: redis.Redis) -> None:
    while not settled(store):
        time.sleep(0.005)  # other processes do the work: all that can be done here is ask


def sustained(store: redis.Redis, tasks: int) -> float:
    began = time.monotonic()
    with ThreadPoolExecutor(CREATORS) as creators:
        for done in [creators.submit(create_some, tasks, number) for number in range(CREATORS)]:
            done.result()
    until_settled(store)
    return time.monotonic() - began


def create_some(tasks: int, number: int) -> None:
    for _ in range(number, tasks, CREATORS):
        noop.delay("x" * 36)


def idle(store: redis.Redis, tasks: int) -> list[float]:
    took = []
    for _ in range(tasks):
        began = time.monotonic()
        noop.delay("x" * 36, told=True)
        took.append(float(reports.recv(100)) - began)
        until_settled(store)
    return took


if __name__ == "__main__":
    reports.bind(STARTS)
    database = redis.Redis(unix_socket_path=path)
    for line in sys.stdin:
        what, number = line.split()
        print(json.dumps((idle if what == "idle" else sustained)(database, int(number))), flush=True)
