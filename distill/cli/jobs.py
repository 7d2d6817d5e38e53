"""What Hydra composes of a command line, carried out: one job, or those of a sweep."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from distill.cli.errors import errors_in_one_line
from distill.cli.sweeps import finished, jobs_go_on, of_failed_jobs, placed, sweep_overrides, waits
from distill.cli.typed import is_sweep, quoted, swept
from distill.presets import CONFIGS, check_experiment
from distill.runs.recorded import complete_overrides

if TYPE_CHECKING:
    from distill.runs.composed import Composed


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="config")
@jobs_go_on()
@errors_in_one_line()
def line(cfg: DictConfig) -> None:
    from distill.runs import comparing, judging  # what computes is imported here: --cfg answers at once
    from distill.runs.composed import Composed

    if cfg.task == "report":
        tell(judging.report(cfg))
    elif cfg.task == "compare":
        tell(comparing.report(cfg))
    elif not waits(job := placed(Composed.from_command_line(cfg))):
        show(job)


def show(job: "Composed") -> None:
    """Carry a run out, and tell what it wrote."""
    from distill.runs.pipeline import carry_out

    straight = carry_out(job)
    tell(straight.written if straight.crew.first else [])


def tell(written: Iterable[Path]) -> None:
    for path in written:
        print(f"wrote {path}")


def run(arguments: Sequence[str]) -> str:
    """Do what the words ask for, and say which jobs of a sweep failed; empty where none did."""
    sys.argv[1:] = typed = quoted(arguments)
    jobs = map(swept, typed) if is_sweep(typed) else [typed]
    check_experiment([item for items in jobs for item in items])
    sys.argv[1:] = sweep_overrides(complete_overrides(typed))
    line()
    with errors_in_one_line():
        for job in finished():
            show(job)
    return of_failed_jobs()
