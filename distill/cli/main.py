"""The command line: distill [task=experts|distill|evaluate|all|report|list] ... ; see --help."""

import os
import sys

import hydra
from omegaconf import DictConfig

from distill import __version__
from distill.cli.errors import errors_in_one_line
from distill.cli.listing import listing
from distill.cli.sweeps import jobs_go_on, of_failed_jobs, placed, sweep_overrides
from distill.cli.typed import check_habits, is_sweep, quoted, swept
from distill.presets import CONFIGS, check_experiment
from distill.runs.recorded import complete_overrides
from distill.runs.signals import interruptible


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="config")
@jobs_go_on()
@errors_in_one_line()
def line(cfg: DictConfig) -> None:
    from distill.runs import judging  # what computes is imported here: --help and --cfg answer at once
    from distill.runs.composed import Composed
    from distill.runs.pipeline import carry_out

    if cfg.task == "report":
        written = judging.report(cfg)
    else:
        straight = carry_out(placed(Composed.from_command_line(cfg)))
        written = straight.written if straight.crew.first else []
    for path in written:
        print(f"wrote {path}")


def main() -> None:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # what Hydra finds wrong reaches us, and becomes one line
    with errors_in_one_line(), interruptible():
        if "--version" in sys.argv:  # before Hydra, which would tell its own
            print(f"distill {__version__}")
            return
        if "task=list" in sys.argv:  # before Hydra, which takes no bare words
            print(listing([item.rpartition("=")[2] for item in sys.argv[1:] if item != "task=list"]))
            return
        check_habits(sys.argv[1:])
        sys.argv[1:] = quoted(sys.argv[1:])
        jobs = map(swept, sys.argv[1:]) if is_sweep(sys.argv[1:]) else [sys.argv[1:]]
        check_experiment([item for items in jobs for item in items])
        sys.argv[1:] = sweep_overrides(complete_overrides(sys.argv[1:]))
        line()
        if told := of_failed_jobs():
            sys.exit(told)
