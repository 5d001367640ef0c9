"""No cell of a CSV file is a formula, and every text comes back as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skinedge.data.csv_cells import from_cell, to_cell
from skinedge.data.dataset import Sample, read_split, write_split

FORMULAS = "=+-@\t\r\n"
TEXTS = st.text(st.one_of(st.sampled_from(FORMULAS + "'\",; a1"), st.characters(exclude_categories=["Cs"])), max_size=8)
PATHS = st.sampled_from(["images/a.jpg", "=a.jpg", "-/a.jpg", "@a/b.jpg", "'+a.jpg"])


@given(TEXTS)
def test_a_cell_is_no_formula_and_gives_its_text_back(text: str) -> None:
    assert to_cell(text)[:1] not in tuple(FORMULAS)
    assert from_cell(to_cell(text)) == text


@given(st.lists(TEXTS, unique=True))
def test_different_texts_are_different_cells(texts: list[str]) -> None:
    assert len({to_cell(text) for text in texts}) == len(texts)


@pytest.mark.parametrize("text", ["nevus", "", "'s Gravenhage", "images/a-b.jpg", "a=b", "\u00e9"])
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert to_cell(text) == text


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("split") / "split.csv"


@given(st.lists(st.tuples(TEXTS, PATHS, TEXTS, TEXTS, TEXTS), min_size=1, max_size=4))
def test_a_split_comes_back_as_it_was(place: Path, rows: list[tuple[str, ...]]) -> None:
    samples = tuple(Sample(i, path, label, lesion, "test", digest) for i, path, label, lesion, digest in rows)
    place.write_bytes(write_split(samples).encode())
    assert read_split(place) == samples
