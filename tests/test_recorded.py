"""What a stranger's record may choose."""

import pytest

from distill.cli.recorded import MOST_CHOICES, plain_choices


def test_plain_choices_pass_and_nothing_that_names_code_places_or_fetches():
    plain = ["data=cifar10", "data.classes=[cat,dog]", "student=[convnet,mlp]", "student.convnet.width=64"]
    others = [
        "data.download=true", "data.path=/x", "student.resnet18_imagenet.weights=IMAGENET1K_V1", "out=/x", "data=../../x",
        "student.convnet._target_=os.abort", "student=${oc.env:HOME}", "hydra.run.dir=/x",
    ]  # fmt: skip
    assert plain_choices([*others, *plain]) == plain


@pytest.mark.parametrize("value", ["999999999", "1e9", "inf", "nan", "99_999", "4097"])
@pytest.mark.parametrize("name", ["student.convnet.width", "student.vit.depth", "data.size"])
def test_a_network_that_would_fill_the_memory_is_refused(name, value):
    with pytest.raises(ValueError, match="was made with .*, expected at most 4096"):
        plain_choices([f"{name}={value}"])


def test_choices_without_end_are_refused():
    with pytest.raises(ValueError, match="records 1001 choices, expected at most 1000"):
        plain_choices(["data=digits"] * (MOST_CHOICES + 1))
