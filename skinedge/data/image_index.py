"""Find a folder's images by the ids that tables give them: paths, file names, or names without suffix."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from skinedge.core.errors import DataError
from skinedge.core.files import sha256
from skinedge.core.image_file import IMAGE_SUFFIXES
from skinedge.data.hdf5_images import hdf5_member

_SMALLER = "_downsampled"  # which ISIC 2019 adds to some ids


class ImageIndex:
    """The images of one folder, by id.

    An id matches an image by its path below the folder, else by its file name, else by its name without suffix; upper
    and lower case of suffixes does not count. Files with the same name must have the same bytes: one of them is taken.
    """

    def __init__(self, root: Path, images: Sequence[str]) -> None:
        self.root, self.images = root, images
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._equal: set[str] = set()  # first files of names whose files were found to have the same bytes
        for image in images:
            for key in dict.fromkeys(_names(image)):
                self._by_name[key].append(image)

    def find(self, image_id: str) -> str | None:
        """Return the image's path relative to the folder, None where there is none.

        Raises: DataError when the id fits images of different content.
        """
        name = image_id.replace("\\", "/").removeprefix("./")
        for key in (name, _lower_suffix(name), PurePosixPath(name).name, stem_of(name)):
            places = self._by_name.get(key)
            if places:
                return self._one(image_id, places)
        return None

    def without(self, labelled: Iterable[str]) -> list[str]:
        """Return the images that are not among `labelled`, nor copies by name of one that is."""
        stems = {stem_of(path) for path in labelled}
        return [image for image in self.images if stem_of(image) not in stems]

    def _one(self, image_id: str, places: list[str]) -> str:
        first, *others = places
        if first in self._equal:
            return first
        for other in others:
            if sha256(self.root / first) != sha256(self.root / other):
                raise DataError(f"two different images are named {image_id}: {first} and {other}", where=str(self.root))
        self._equal.add(first)
        return first


def stem_of(name: str) -> str:
    """Return a path's or id's file name without an image's suffix, and without ISIC 2019's '_downsampled'.

    Of an image in an HDF5 file, its id.
    """
    path = PurePosixPath(hdf5_member(name)[1] or name.replace("\\", "/"))
    stem = path.name[: -len(path.suffix)] if path.suffix.lower() in IMAGE_SUFFIXES else path.name
    return stem.removesuffix(_SMALLER)


def _names(image: str) -> tuple[str, ...]:
    return image, _lower_suffix(image), PurePosixPath(image).name, stem_of(image)


def _lower_suffix(name: str) -> str:
    suffix = PurePosixPath(name).suffix
    return name[: -len(suffix)] + suffix.lower() if suffix else name
