"""Input contracts: the numbers that callers hand over, against each consumer's own arithmetic in plain numpy."""

from __future__ import annotations

import numpy as np
import pytest

from skinedge.core.errors import ConfigError
from skinedge.core.input_format import CONTRACTS, contract

BYTES = np.arange(256, dtype=np.uint8)

# As the consumers write it: in double precision, rounded once.
FORMULAS = {
    "pixels": lambda x: x,
    "google": lambda x: (x - 127.5) / 127.5,
    "qualcomm": lambda x: x / 255,
    "uint8": lambda x: x,
}


def test_every_contract_has_a_formula_here() -> None:
    assert list(CONTRACTS) == list(FORMULAS)
    assert all(contract(name) is found and found.name == name and found.used_by for name, found in CONTRACTS.items())


@pytest.mark.parametrize("name", FORMULAS)
def test_every_byte_becomes_what_its_consumer_makes_of_it(name: str) -> None:
    found = contract(name)
    encoded = found.encode(BYTES)
    assert encoded.dtype == np.dtype(found.dtype) == ("uint8" if name == "uint8" else "float32")
    np.testing.assert_allclose(encoded, FORMULAS[name](BYTES.astype(np.float64)), rtol=0, atol=1e-7)
    assert len(set(encoded.tolist())) == 256, "two pixels look alike"


@pytest.mark.parametrize("name", FORMULAS)
def test_its_range_is_what_black_and_white_become(name: str) -> None:
    found = contract(name)
    np.testing.assert_allclose(found.range, found.encode(BYTES)[[0, -1]], atol=1e-7)
    assert found.range == {"google": (-1, 1), "qualcomm": (0, 1)}.get(name, (0, 255))


@pytest.mark.parametrize("name", FORMULAS)
def test_any_layout_is_encoded_place_by_place_and_contiguous(name: str) -> None:
    """A transposed view is what a channels-first file is fed from; runtimes read memory, not strides."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3)).astype(np.uint8)
    moved = pixels.transpose(0, 3, 1, 2)
    encoded = contract(name).encode(moved)
    assert encoded.flags.c_contiguous and encoded.shape == (2, 3, 5, 4)
    np.testing.assert_array_equal(encoded, contract(name).encode(pixels).transpose(0, 3, 1, 2))


def test_encoding_leaves_the_pixels_as_they_are() -> None:
    for found in CONTRACTS.values():
        pixels = BYTES.copy()
        found.encode(pixels)
        np.testing.assert_array_equal(pixels, BYTES)


def test_an_unknown_contract_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"unknown input contract 'apple'\nKnown: pixels, google, qualcomm, uint8\."):
        contract("apple")
