import torch
from hypothesis import given
from hypothesis import strategies as st

from distill import rng

seeds = st.integers(0, 2**40)


@given(seeds, st.text(max_size=8), st.lists(st.integers(0, 10**9), max_size=3))
def test_a_derived_seed_is_a_function_of_its_arguments_and_fits_a_generator(seed, purpose, steps):
    value = rng.derive(seed, purpose, *steps)
    assert value == rng.derive(seed, purpose, *steps)
    assert 0 <= value < 2**63


@given(seeds, st.integers(0, 10**6))
def test_neighbouring_seeds_purposes_and_steps_share_no_draw(seed, step):
    values = {
        rng.derive(seed, "a", step),
        rng.derive(seed + 1, "a", step),
        rng.derive(seed, "b", step),
        rng.derive(seed, "a", step + 1),
    }
    assert len(values) == 4


def test_seeded_gives_the_same_numbers_anywhere_and_leaves_the_global_stream_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with rng.seeded(0, "net", 5):
        first = torch.rand(2)
    assert torch.equal(torch.rand(3), expected)
    with rng.seeded(0, "net", 5):
        assert torch.equal(torch.rand(2), first)


@given(seeds)
def test_seeded_gives_the_numbers_of_torchs_own_seed(seed):
    with rng.seeded(seed, "net", 5):
        numbers = torch.rand(2)
    assert torch.equal(numbers, torch.rand(2, generator=torch.Generator().manual_seed(rng.derive(seed, "net", 5))))
    with torch.random.fork_rng():
        torch.manual_seed(rng.derive(seed, "net", 5))
        assert torch.equal(numbers, torch.rand(2))
