"""Input contracts against the formulas of the software that uses them, in plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from skinedge.core.errors import ConfigError
from skinedge.core.input_format import CONTRACTS, contract

BYTES = np.arange(256, dtype=np.uint8)

# Reference formulas in double precision, rounded once.
FORMULAS = {
    "pixels": lambda x: x,
    "google": lambda x: (x - 127.5) / 127.5,
    "qualcomm": lambda x: x / 255,
    "uint8": lambda x: x,
}


def test_every_contract_has_a_reference_formula() -> None:
    assert list(CONTRACTS) == list(FORMULAS)
    assert all(contract(name) is entry and entry.name == name and entry.used_by for name, entry in CONTRACTS.items())


@pytest.mark.parametrize("name", FORMULAS)
def test_encoding_matches_the_reference_formula(name: str) -> None:
    selected = contract(name)
    encoded = selected.encode(BYTES)
    assert encoded.dtype == np.dtype(selected.dtype) == ("uint8" if name == "uint8" else "float32")
    np.testing.assert_allclose(encoded, FORMULAS[name](BYTES.astype(np.float64)), rtol=0, atol=1e-7)
    assert len(set(encoded.tolist())) == 256, "two byte values have the same encoding"


@pytest.mark.parametrize("name", FORMULAS)
def test_range_equals_encoded_black_and_white(name: str) -> None:
    selected = contract(name)
    np.testing.assert_allclose(selected.range, selected.encode(BYTES)[[0, -1]], atol=1e-7)
    assert selected.range == {"google": (-1, 1), "qualcomm": (0, 1)}.get(name, (0, 255))


@pytest.mark.parametrize("name", FORMULAS)
def test_encoding_is_elementwise_and_contiguous(name: str) -> None:
    """Channels-first inputs are transposed views; runtimes read the memory and ignore strides."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3)).astype(np.uint8)
    channels_first = pixels.transpose(0, 3, 1, 2)
    encoded = contract(name).encode(channels_first)
    assert encoded.flags.c_contiguous and encoded.shape == (2, 3, 5, 4)
    np.testing.assert_array_equal(encoded, contract(name).encode(pixels).transpose(0, 3, 1, 2))


def test_encoding_does_not_change_its_input() -> None:
    for selected in CONTRACTS.values():
        pixels = BYTES.copy()
        selected.encode(pixels)
        np.testing.assert_array_equal(pixels, BYTES)


def test_unknown_contract_error_lists_valid_names() -> None:
    with pytest.raises(ConfigError, match=r"unknown input contract 'apple'\nKnown: pixels, google, qualcomm, uint8\."):
        contract("apple")
