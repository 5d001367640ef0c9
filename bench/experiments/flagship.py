"""Gather the images that the shipped model is trained and evaluated on; part of `make flagship`.

HAM10000, each photo in the best resolution available: the 224-pixel centre crop if there is one, else the full photo at
200 x 150 pixels. Every split has both.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from skinedge.core.errors import DataError, SkinedgeError
from skinedge.system.progress import note

SHARED = Path("../shared/data")
TABLE = "HAM10000_metadata.csv"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.flagship", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("out", type=Path, help="the folder to create")
    parser.add_argument(
        "--whole", type=Path, default=SHARED / "ham10000_200x150", help="full photos [default: %(default)s]"
    )
    parser.add_argument(
        "--sharp", type=Path, default=SHARED / "isic2018_224/train", help="centre crops [default: %(default)s]"
    )
    options = parser.parse_args(arguments)
    try:
        gather(options.whole, options.sharp, options.out)
    except SkinedgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def gather(whole: Path, sharp: Path, out: Path) -> None:
    """Copy the table and the images to `out`, which appears complete or not at all; does nothing if it exists.

    whole: folder with `TABLE` and images/DX/ID.jpg; sharp: folder of DX/ID.jpg.
    Raises: DataError when one of them is missing.
    """
    if out.exists():
        note(f"{out} exists already")
        return
    images = sorted((whole / "images").glob("*/*.jpg"))
    crops = {path.relative_to(sharp) for path in sharp.glob("*/*.jpg")}
    for folder, complete in ((whole, images and (whole / TABLE).is_file()), (sharp, crops)):
        if not complete:
            raise DataError("no images of HAM10000 here", where=str(folder))
    part = out.with_name(f"{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    for path in images:
        name = path.relative_to(whole / "images")
        target = part / "images" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(sharp / name if name in crops else path, target)
    shutil.copyfile(whole / TABLE, part / TABLE)
    part.rename(out)
    note(f"{out}: {len(images)} images, {len(crops)} of them as sharper crops")


if __name__ == "__main__":
    sys.exit(main())
