"""Cards that are stated, not here: ``configs/card``."""

from dataclasses import dataclass

from omegaconf import OmegaConf

from distill.checks import check_ranges, setting, stated
from distill.presets import CONFIGS, options, unknown

MEASURED = "h200"  # whose shares and launches stand for those of cards that state none


@dataclass(frozen=True)
class Card:
    """A card, as its data sheet has it, and what of that steps of ours reach.

    Attributes:
        memory: bytes.
        fp32: TFLOP/s of convolutions in float32, which torch computes in TF32.
        bf16: TFLOP/s, dense.
        share_fp32, share_bf16: of these, that steps on many images reach.
        launch_training, launch_outer: seconds that each tensor operation takes, of a step of training, or of a method.
    """

    name: str = setting("text")
    memory: float = setting("(0, 1e15]")
    fp32: float = setting("(0, 1e6]")
    bf16: float = setting("(0, 1e6]")
    share_fp32: float = setting("(0, 1]")
    share_bf16: float = setting("(0, 1]")
    launch_training: float = setting("[0, 1]")
    launch_outer: float = setting("[0, 1]")

    def __post_init__(self) -> None:
        check_ranges("card", vars(self), stated(type(self)))

    def seconds(self, operations: float, launched: float, precision: str, trains: bool) -> float:
        """Of so many floating-point operations, in so many tensor operations that follow each other.

        >>> card("h100").seconds(39e12, 0, "bf16", True)  # a second, up to rounding of the share
        1.01...
        """
        peak, share = (self.bf16, self.share_bf16) if precision == "bf16" else (self.fp32, self.share_fp32)
        return launched * (self.launch_training if trains else self.launch_outer) + operations / (1e12 * peak * share)


def card(name: str) -> Card:
    """The card of a name, with what was measured on `MEASURED` where it states none; raises ValueError where there is none."""
    known = options("card")
    if name not in known:
        raise ValueError(f"{unknown('device', name, ['auto', 'cpu', 'cuda', *known])}")
    measured, own = (OmegaConf.load(CONFIGS / "card" / f"{each}.yaml") for each in (MEASURED, name))
    return Card(name=name, **OmegaConf.to_container(OmegaConf.merge(measured, own)))  # type: ignore[arg-type]
