from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments import flagship


def write(path: Path, side: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((side, side, 3), 90, np.uint8)).save(path)


def width(path: Path) -> int:
    with Image.open(path) as image:
        return image.width


@pytest.fixture
def sources(tmp_path: Path) -> tuple[Path, Path]:
    whole, sharp = tmp_path / "whole", tmp_path / "sharp"
    for name in ("mel/ISIC_1", "nv/ISIC_2"):
        write(whole / "images" / f"{name}.jpg", 20)
    write(sharp / "mel/ISIC_1.jpg", 30)
    write(sharp / "nv/ISIC_3.jpg", 30)  # a crop without a full photo
    (whole / flagship.TABLE).write_text("lesion_id,image_id,dx\n", encoding="utf-8")
    return whole, sharp


def test_each_photo_is_copied_once_in_the_best_resolution(sources: tuple[Path, Path], tmp_path: Path) -> None:
    flagship.gather(*sources, tmp_path / "out")
    widths = {path.relative_to(tmp_path / "out").as_posix(): width(path) for path in tmp_path.glob("out/images/*/*")}
    assert widths == {"images/mel/ISIC_1.jpg": 30, "images/nv/ISIC_2.jpg": 20}
    assert (tmp_path / "out" / flagship.TABLE).is_file()


def test_missing_images_are_an_error_and_nothing_is_written(
    sources: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert flagship.main([str(out), "--whole", str(sources[0]), "--sharp", str(tmp_path / "none")]) == 1
    assert "no images of HAM10000" in capsys.readouterr().err
    assert not out.exists()
