"""Jobs of a SLURM cluster, through submitit: an array for the units of an arrow; what is pre-empted is queued again."""

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from distill.checks import setting
from distill.engines.base import Engine, Errand, Need, Submit, outcome, settle
from distill.parallel import Heard

MARGIN = 3.0  # of what a job asks for, over what the plan says
LEAST_MINUTES, LEAST_GIGABYTES = 30, 4  # that a job asks for: torch takes some of it


@dataclass(frozen=True)
class Slurm(Engine):
    """Each unit is a job of its own, whose worker finds the run's files where this process does.

    Attributes:
        folder: of the jobs' scripts and logs, on a disk that all nodes have.
        most: jobs at the same time, where ``workers`` is auto.
        minutes, gigabytes: of a job; None asks for three times what the plan says.
        partition: None is the cluster's own.
        more: options of sbatch by their long names (``{account: me}``).
        poll: seconds between two looks at what has ended.
    """

    folder: str = setting("path")
    most: int = setting("whole [1, 100000]")
    minutes: int | None = setting("null or whole [1, 1000000]")
    gigabytes: int | None = setting("null or whole [1, 1000000]")
    partition: str | None = setting("null or text")
    more: Mapping[str, Any] = setting("{} or map of text to anything")
    poll: float = setting("(0, 3600]")

    def at_once(self, asked: int | str) -> int:
        return self.most if asked == "auto" else int(asked)

    @contextmanager
    def open(self, workers: int | str, heard: Heard) -> Iterator[Submit]:
        import submitit  # late: it is an extra

        sent: list[Any] = []

        def submit(errands: Sequence[Errand], need: Callable[[], Need]) -> list["Future[Any]"]:
            executor = submitit.AutoExecutor(self.folder, cluster="slurm")
            executor.update_parameters(**self.asked(need(), self.at_once(workers)))
            jobs, futures = executor.map_array(Again(), errands), [Future[None]() for _ in errands]
            sent.extend(jobs)
            of_job = dict(zip(jobs, futures, strict=True))

            def watch() -> None:
                for job in submitit.helpers.as_completed(jobs, poll_frequency=self.poll):
                    settle(of_job[job], job.result)

            threading.Thread(target=watch, daemon=True).start()
            return futures

        try:
            yield submit
        finally:
            for job in sent:
                if not job.done():
                    job.cancel(check=False)

    def asked(self, need: Need, count: int) -> dict[str, Any]:
        """What submitit is told.

        >>> slurm = Slurm("jobs", 16, None, None, None, {"account": "me"}, 10.0)
        >>> asked = slurm.asked(Need(3600.0, 2 * 10**9, 2, 1), 16)
        >>> asked["timeout_min"], asked["mem_gb"], asked["cpus_per_task"], asked["slurm_gres"]
        (180, 6, 2, 'gpu:1')
        """
        minutes = max(LEAST_MINUTES, math.ceil(MARGIN * need.seconds / 60))
        gigabytes = max(LEAST_GIGABYTES, math.ceil(MARGIN * need.memory / 1e9))
        return {
            "name": "distill",
            "timeout_min": self.minutes or minutes,
            "mem_gb": self.gigabytes or gigabytes,
            "cpus_per_task": need.threads,
            "slurm_array_parallelism": count,
            "slurm_partition": self.partition,
            "slurm_gres": f"gpu:{need.gpus}" if need.gpus else None,
            "slurm_additional_parameters": dict(self.more),
        }


class Again:
    """Does an errand; where the cluster pre-empts its job, the job is queued again and goes on from what is on the disk."""

    def __call__(self, errand: Errand) -> str:
        return outcome(errand)

    def checkpoint(self, errand: Errand) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, errand)
