"""Workers of a Ray cluster; which of them gets an errand, and what becomes of a lost node's, is Ray's matter."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from distill.checks import setting
from distill.engines.base import Engine, Errand, Need, Submit, outcome, settle
from distill.parallel import Heard

STORE = 100_000_000  # bytes for objects of a cluster that is started here; errands leave files


@dataclass(frozen=True)
class Ray(Engine):
    """A cluster that runs, or one that is started on this machine and ends with the run.

    Attributes:
        address: ``auto`` (of the cluster that this machine belongs to) or ``HOST:PORT``; None starts one here.
        retries: how often Ray gives an errand to another worker where its process or node was lost, before a round fails.
    """

    address: str | None = setting("null or text")
    retries: int = setting("whole [0, 1000]")

    def at_once(self, asked: int | str) -> int:
        import ray

        if asked != "auto":
            return int(asked)
        there = ray.cluster_resources()
        return max(1, int(there.get("GPU", there.get("CPU", 1))))

    @contextmanager
    def open(self, workers: int | str, heard: Heard) -> Iterator[Submit]:
        # A worker as patient as Ray makes them (nice 15) gets nothing of a machine that has other work.
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
        import ray  # late: it is an extra, and takes a second

        here: dict[str, Any] = {} if self.address else {"include_dashboard": False, "object_store_memory": STORE}
        ray.init(address=self.address or "local", log_to_driver=False, logging_level=logging.ERROR, **here)

        def submit(errands: Sequence[Errand], need: Callable[[], Need]) -> list["Future[Any]"]:
            asked = need()
            task = ray.remote(outcome).options(
                num_cpus=asked.threads, num_gpus=asked.gpus, max_retries=self.retries, name="distill"
            )
            futures = [Future[None]() for _ in errands]
            for future, errand in zip(futures, errands, strict=True):
                task.remote(errand).future().add_done_callback(partial(ended, future))
            return futures

        try:
            yield submit
        finally:
            ray.shutdown()


def ended(future: "Future[None]", done: "Future[str]") -> None:
    settle(future, done.result)
