"""The images that the shipped model is trained and judged on: `make flagship`, or this file with a folder to make.

HAM10000, each photo in the best resolution at hand: the 224-pixel centre crop where there is one, else the whole at
200 x 150 pixels. Sharp and soft images are in every split.
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
    parser = argparse.ArgumentParser(prog="flagship.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="the folder to make")
    parser.add_argument("--whole", type=Path, default=SHARED / "ham10000_200x150", help="[default: %(default)s]")
    parser.add_argument("--sharp", type=Path, default=SHARED / "isic2018_224/train", help="[default: %(default)s]")
    options = parser.parse_args(arguments)
    try:
        gather(options.whole, options.sharp, options.out)
    except SkinedgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def gather(whole: Path, sharp: Path, out: Path) -> None:
    """Copy the table and the images; nothing to do where `out` is there. It appears complete or not at all.

    whole, sharp: folders of DX/ID.jpg, the first with `TABLE` and images/ above them.
    Raises: DataError when one of them is not there.
    """
    if out.exists():
        note(f"{out} is there already")
        return
    images = sorted((whole / "images").glob("*/*.jpg"))
    crops = {path.relative_to(sharp) for path in sharp.glob("*/*.jpg")}
    for folder, found in ((whole, images and (whole / TABLE).is_file()), (sharp, crops)):
        if not found:
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
    note(f"{out}: {len(images)} images, {len(crops)} of them the sharper crops")


if __name__ == "__main__":
    sys.exit(main())
