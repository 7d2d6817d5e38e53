"""Networks of the timm library, by name: backbones that others trained, or the same ones fresh."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from distill.checks import check_ranges
from distill.networks.base import Shape, Student

MISSING = "timm's networks need the package timm, which is not installed: pip install 'distill[vision]'"


class Timm(Student):
    """One of timm's networks up to its classifier.

    Args:
        name: timm's, without a tag: ``resnet18``, ``vit_small_patch14_dinov2``.
        weights: None, or the tag of published weights (``lvd142m``), fetched where there is a network.

    Raises:
        ValueError: timm is not installed, has no such network or no weights of this tag, or the network takes no images of this
            shape.
        OSError: the weights could not be fetched.
    """

    RANGES: ClassVar[Mapping[str, Any]] = {"name": "text", "weights": "null or text"}

    def __init__(self, shape: Shape, num_classes: int, *, name: str, weights: str | None):
        check_ranges("student", locals(), Timm.RANGES)
        super().__init__(shape, num_classes, features_of(shape, name, weights))
        self.published = weights

    def start(self) -> None:
        """Raise ValueError: timm's start is not drawn in place."""
        raise ValueError(f"{type(self).__name__} cannot be restarted in place: choose a convolutional network of ours")


def features_of(shape: Shape, name: str, weights: str | None) -> nn.Module:
    """timm's network without its classifier, for images of one shape."""
    try:
        import timm
    except ImportError:
        raise ValueError(MISSING) from None
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name}*")[:3]) or "timm.list_models() tells all"
        raise ValueError(f"student.name is {name!r}, and timm has no such network: {near}")
    known = timm.models.list_pretrained(f"{name}.*")
    if weights is not None and f"{name}.{weights}" not in known:
        tags = ", ".join(each.partition(".")[2] for each in known) or "null, none are published"
        raise ValueError(f"student.weights is {weights!r}, timm's weights of {name} are {tags}")
    full = name if weights is None else f"{name}.{weights}"
    config = timm.models.get_pretrained_cfg(full)
    sized: dict[str, Any] = {"img_size": shape[1:]} if config is not None and config.fixed_input_size else {}
    try:
        net: nn.Module = timm.create_model(full, weights is not None, num_classes=0, in_chans=shape[0], **sized)
    except OSError as error:
        raise OSError(
            f"the weights {full} could not be fetched ({type(error).__name__}): is there a network?"
        ) from None
    return net
