"""The command line: distill [task=experts|distill|evaluate|all|report|list] ... ; see --help."""

import ctypes
import os
import sys
import warnings

import hydra
from omegaconf import DictConfig

from distill import __version__
from distill.cli.errors import errors_in_one_line
from distill.cli.listing import listing
from distill.cli.typed import check_habits, quoted
from distill.presets import CONFIGS, check_experiment, unknown
from distill.runs.recorded import complete_overrides
from distill.runs.signals import interruptible

TASKS = ("experts", "distill", "evaluate", "all", "report", "list")


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="config")
@errors_in_one_line()
def line(cfg: DictConfig) -> None:
    if cfg.task not in TASKS:
        raise ValueError(unknown("task", cfg.task, TASKS))
    from distill.progress import heard_by, stage
    from distill.runs import cost, judging, stages  # what computes is imported here: --help and --cfg answer at once
    from distill.runs.composed import Composed
    from distill.runs.line import Line
    from distill.runs.progress import shown

    warnings.filterwarnings("ignore", module="pytorch_lightning|torch.utils.data|lightning_fabric|joblib")
    keep_freed_memory()
    if cfg.task == "report":
        for path in judging.report(cfg):
            print(f"wrote {path}")
        return
    with shown() as progress, heard_by(progress):
        straight = Line(Composed.from_command_line(cfg), progress)
        if straight.rank == 0 and not cost.is_chosen(straight):
            with stage("measuring what this will cost"):
                told = cost.cost(straight)
            progress.say(told)
        arrows = {"experts": stages.experts, "distill": stages.distill, "evaluate": judging.evaluate}
        for task in arrows if cfg.task == "all" else (cfg.task,):
            if task == "distill" or straight.rank == 0:  # of several processes the first does what cannot be shared
                arrows[task](straight)
            straight.wait()
        if straight.wandb is not None:
            straight.wandb.finish()
    for path in straight.written if straight.rank == 0 else ():
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
        check_experiment(sys.argv[1:])
        sys.argv[1:] = complete_overrides(sys.argv[1:])
        line()


def keep_freed_memory() -> None:
    """Let glibc reuse large blocks, here and in workers, rather than give each back and fault it in again.

    Training steps on 256 digits (ConvNet-2, width 32, two cores): 8.6 to 10.1 ms without, 5.7 to 6.4 ms with it.
    """
    mmap_threshold, trim_threshold = 32 * 2**20, 2**31 - 1  # the largest that glibc takes
    os.environ |= {"MALLOC_MMAP_THRESHOLD_": str(mmap_threshold), "MALLOC_TRIM_THRESHOLD_": str(trim_threshold)}
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return  # another C library
    libc.mallopt(-3, mmap_threshold)
    libc.mallopt(-1, trim_threshold)
