"""Find a folder's images by the ids that tables give them: paths, file names, or names without suffix."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

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
        self._digests: dict[str, str] = {}  # of the files that share a name
        for image in images:
            for key in dict.fromkeys(_names(image)):
                self._by_name[key].append(image)

    def places(self, image_id: str) -> tuple[str, ...]:
        """Return the images that the id fits: of those with the same bytes, the first."""
        name = image_id.replace("\\", "/").removeprefix("./")
        for key in (name, _lower_suffix(name), PurePosixPath(name).name, stem_of(name)):
            places = self._by_name.get(key)
            if places:
                return self._distinct(places)
        return ()

    def without(self, labelled: Iterable[str]) -> list[str]:
        """Return the images that are not among `labelled`, nor copies of one that is, with its name and its bytes."""
        known = set(labelled)
        of_stem: dict[str, list[str]] = defaultdict(list)
        for path in known:
            of_stem[stem_of(path)].append(path)
        others = [image for image in self.images if image not in known]
        return [image for image in others if not self._is_copy(image, of_stem[stem_of(image)])]

    def _is_copy(self, image: str, named_alike: Sequence[str]) -> bool:
        return any(self._digest(other) == self._digest(image) for other in named_alike)

    def _distinct(self, places: Sequence[str]) -> tuple[str, ...]:
        """Return the first of the images that have the same bytes."""
        if len(places) == 1:
            return (places[0],)
        first: dict[str, str] = {}
        for path in places:
            first.setdefault(self._digest(path), path)
        return tuple(first.values())

    def _digest(self, path: str) -> str:
        if path not in self._digests:
            try:
                self._digests[path] = sha256(self.root / path)
            except OSError:  # a broken link, or not permitted: the same as no other file
                self._digests[path] = path
        return self._digests[path]


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
