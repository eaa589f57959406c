import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robustkit.compute.seeds import check_seed, derive_seed, isolated_rng, torch_generator
from robustkit.errors import ConfigError

PART = st.one_of(st.integers(), st.text())


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_a_seed_is_the_same_in_every_process_and_version() -> None:
    assert derive_seed(0, "a") == 8452449918920806901


@given(st.lists(PART), st.lists(PART))
def test_seeds_differ_exactly_when_their_parts_differ(
    a: list[int | str], b: list[int | str]
) -> None:
    assert (derive_seed(*a) == derive_seed(*b)) == (a == b)


@given(st.lists(PART))
def test_a_seed_is_a_63_bit_number(parts: list[int | str]) -> None:
    assert 0 <= derive_seed(*parts) < 2**63


def test_parts_do_not_run_together() -> None:
    assert derive_seed("ab", "c") != derive_seed("a", "bc")
    assert derive_seed(1) != derive_seed("1")


def test_numpy_integers_count_as_integers_and_floats_are_refused() -> None:
    assert derive_seed(int(np.int64(3))) == derive_seed(np.int64(3))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        derive_seed(0.5)  # type: ignore[arg-type]


def test_a_generator_repeats_itself() -> None:
    first = torch.rand(4, generator=torch_generator(7, "views"))
    assert torch.equal(first, torch.rand(4, generator=torch_generator(7, "views")))
    assert not torch.equal(first, torch.rand(4, generator=torch_generator(8, "views")))


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_that_some_generator_refuses_is_refused_by_name(seed: int) -> None:
    with pytest.raises(ConfigError, match=f"seed must be .*{seed}"):
        check_seed(seed)


def test_every_derived_seed_may_be_a_seed() -> None:
    check_seed(0)
    check_seed(2**63 - 1)
    check_seed(derive_seed("large"))


def test_isolated_rng_starts_from_its_seed() -> None:
    with isolated_rng(5):
        first = draw()
    draw()
    with isolated_rng(5):
        assert draw() == first


@pytest.mark.parametrize("seed", [None, 3, derive_seed("large")])
def test_isolated_rng_puts_every_generator_back(seed: int | None) -> None:
    with isolated_rng(1):
        expected = [draw(), draw()]
    with isolated_rng(1):
        assert draw() == expected[0]
        with isolated_rng(seed):
            draw()
        assert draw() == expected[1]


def test_isolated_rng_puts_the_generators_back_after_an_exception() -> None:
    with isolated_rng(1):
        expected = draw()
    with isolated_rng(1):
        with pytest.raises(ZeroDivisionError), isolated_rng(2):
            raise ZeroDivisionError(draw())
        assert draw() == expected
