"""CSV cells are never formulas, and every text is recovered exactly."""

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
def test_cells_are_not_formulas_and_are_reversible(text: str) -> None:
    assert to_cell(text)[:1] not in tuple(FORMULAS)
    assert from_cell(to_cell(text)) == text


@given(st.lists(TEXTS, unique=True))
def test_distinct_texts_give_distinct_cells(texts: list[str]) -> None:
    assert len({to_cell(text) for text in texts}) == len(texts)


@pytest.mark.parametrize("text", ["nevus", "", "'s Gravenhage", "images/a-b.jpg", "a=b", "\u00e9"])
def test_other_texts_are_unchanged(text: str) -> None:
    assert to_cell(text) == text


@pytest.fixture(scope="module")
def split_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("split") / "split.csv"


@given(st.lists(st.tuples(TEXTS, PATHS, TEXTS, TEXTS, TEXTS), min_size=1, max_size=4))
def test_split_file_round_trip(split_file: Path, rows: list[tuple[str, ...]]) -> None:
    samples = tuple(Sample(i, path, label, lesion, "test", digest) for i, path, label, lesion, digest in rows)
    split_file.write_bytes(write_split(samples).encode())
    assert read_split(split_file) == samples
