"""File names that are not UTF-8, as Linux allows them, from the folder through the split file and back."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from skinedge.core.errors import DataError
from skinedge.core.files import write_atomic
from skinedge.core.preprocess import Preprocess
from skinedge.data.dataset import load_pixels, read_split, write_split
from skinedge.data.readers import read
from skinedge.data.split import split
from skinedge_export.int8.calibration_images import load_calibration

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="file names are Unicode here")
NAMES = (b"a\xffb", b"\xc3", "m\u00e4l".encode("latin-1"), "m\u00e4l".encode())


def images(root: Path, labels: tuple[bytes, ...]) -> Path:
    for label in labels:
        (root / os.fsdecode(label)).mkdir(parents=True)
        for number, name in enumerate((*NAMES, *(b"%d" % k for k in range(8)))):
            path = root / os.fsdecode(label) / f"{os.fsdecode(name)}{os.fsdecode(label)}.png"
            Image.effect_noise((24, 24), 90 + number).save(path)
    return root


def test_a_name_that_is_not_utf8_is_in_the_split_file_as_it_is(tmp_path: Path) -> None:
    root = images(tmp_path / "data", (b"mel", b"nv"))
    samples = split(read(root), seed=0)
    write_atomic(tmp_path / "split.csv", write_split(samples))
    assert all(name + b"mel.png" in (tmp_path / "split.csv").read_bytes() for name in NAMES)
    again = read_split(tmp_path / "split.csv")
    assert [(s.path, s.label, s.split) for s in again] == [(s.path, s.label, s.split) for s in samples]
    assert all(load_pixels(root, sample.path).shape == (24, 24, 3) for sample in again)
    assert len(load_calibration(root, again, Preprocess(24)).ids) == len(again)


def test_a_class_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="other bytes than UTF-8"):
        read(images(tmp_path, (b"m\xffl", b"nv")))
