"""Tensors that stay in their files."""

import pytest
import torch
from safetensors.torch import load_file

from distill.filed import Filed, Joined
from distill.files import hash_tensors, load_tensors, save_tensors

KINDS = {
    "images": torch.arange(7 * 3 * 4 * 4).to(torch.uint8).view(7, 3, 4, 4),
    "half": torch.randn(5, 9).half(),
    "long": torch.arange(11),
    "lr": torch.tensor(0.5),
    "none": torch.zeros(0, 4),
    "strided": torch.randn(6, 4).t(),
    "flags": torch.tensor([True, False]),
}


def test_a_file_is_what_safetensors_reads_and_hashes_are_those_of_the_whole_tensors(tmp_path, monkeypatch):
    save_tensors(tmp_path / "a.safetensors", KINDS, {"of": "all kinds"})
    read = load_file(tmp_path / "a.safetensors")
    assert read.keys() == KINDS.keys() and all(torch.equal(read[name], KINDS[name]) for name in KINDS)
    whole = hash_tensors(KINDS)
    monkeypatch.setattr("distill.files.PART", 1)  # an item at a time
    assert hash_tensors(KINDS) == hash_tensors(read) == whole
    save_tensors(tmp_path / "b.safetensors", KINDS, {"of": "all kinds"})
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_what_stays_in_its_file_stands_where_the_tensor_stands(tmp_path):
    save_tensors(tmp_path / "a.safetensors", KINDS)
    names = ("images", "half", "long", "flags", "none")
    found, _ = load_tensors(tmp_path / "a.safetensors", filed=names)
    assert isinstance(found["lr"], torch.Tensor) and hash_tensors(found) == hash_tensors(KINDS)
    for name in names:
        filed, tensor = found[name], KINDS[name]
        assert isinstance(filed, Filed) and (filed.dtype, filed.shape, len(filed)) == (
            tensor.dtype,
            tensor.shape,
            len(tensor),
        )
        for index in (slice(None), slice(1, 4), slice(0, None, 2)):
            assert torch.equal(filed[index], tensor[index])
        assert torch.equal(torch.cat(list(filed.split(2)) or [tensor]), tensor)
    index = torch.tensor([[3, 0, 3], [6, -1, 2]])
    assert torch.equal(found["images"][index], KINDS["images"][index])
    with pytest.raises(IndexError):
        found["images"][torch.tensor([7])]
    save_tensors(tmp_path / "b.safetensors", found)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_file_that_became_shorter_is_told(tmp_path):
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"images": KINDS["images"]})
    images = load_tensors(path, filed=["images"])[0]["images"]
    path.write_bytes(path.read_bytes()[:-1])
    assert torch.equal(images[:6], KINDS["images"][:6])
    with pytest.raises(ValueError, match="became shorter while it was read"):
        images[6:]


def test_parts_joined_are_the_whole():
    whole, order = torch.randn(9, 2), torch.randperm(9)
    places = [order[:4], order[4:5], order[5:]]
    joined = Joined([whole[own] for own in places], places)
    assert torch.equal(joined[:], whole) and torch.equal(torch.cat(list(joined.split(4))), whole)
    assert hash_tensors({"x": joined}) == hash_tensors({"x": whole})
