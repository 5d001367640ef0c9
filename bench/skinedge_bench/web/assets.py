"""The libraries of the `skinedge web` page: the required files of pinned npm packages.

`python -m skinedge_bench.web.assets` (`make web`) fetches them into `page/vendor` and compresses each file:
uncompressed, 33 MB would be an eighth of the limit for the base install on a Raspberry Pi.
"""

from __future__ import annotations

import hashlib
import lzma
import shutil
import sys
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from skinedge.core.errors import SkinedgeError
from skinedge.core.json_io import read_toml
from skinedge.system.child_process import run_program
from skinedge.system.folder_swap import put_in_place
from skinedge.system.temporary_folder import scratch_folder

PAGE = Path(__file__).parent / "page"
VENDOR = PAGE / "vendor"


@dataclass(frozen=True)
class Package:
    """One npm package.

    sha256: of its archive; runtime: the page's runtime that needs it ('litert.js', 'onnxruntime-web'); license: SPDX;
    files: path in the package -> path under the vendor folder.
    """

    name: str
    version: str
    license: str
    sha256: str
    runtime: str
    files: Mapping[str, str]


@dataclass(frozen=True)
class Assets:
    """The content of page/assets.toml."""

    package: tuple[Package, ...]


def packages() -> tuple[Package, ...]:
    """Read the packages from page/assets.toml."""
    return read_toml(PAGE / "assets.toml", Assets).package


def vendored(runtime: str, vendor: Path = VENDOR) -> dict[str, bytes]:
    """Read the files that a runtime of the page needs: path under the vendor folder -> content.

    Raises: SkinedgeError when a file is missing.
    """
    names = [name for package in packages() if package.runtime == runtime for name in package.files.values()]
    if missing := missing_files(names, vendor):
        raise SkinedgeError(
            f"this installation lacks the files that run a model in a browser ({missing[0]})",
            where=str(vendor),
            todo="Fetch them: make web   (in a clone of the repository; a wheel built after it has them)",
        )
    return {name: lzma.decompress(compressed(vendor, name).read_bytes()) for name in names}


def is_complete(vendor: Path = VENDOR) -> bool:
    """Return whether the files of all runtimes of the page are there."""
    return not missing_files([name for package in packages() for name in package.files.values()], vendor)


def missing_files(names: Iterable[str], vendor: Path) -> list[str]:
    """Return the paths under the vendor folder that have no file, sorted."""
    return sorted(name for name in names if not compressed(vendor, name).is_file())


def compressed(vendor: Path, name: str) -> Path:
    """Return the path of a compressed file in the vendor folder."""
    return vendor / f"{name}.xz"


def version(runtime: str) -> str:
    """Return the version of the first package that a runtime of the page needs."""
    return next(package.version for package in packages() if package.runtime == runtime)


def fetch(vendor: Path = VENDOR) -> None:
    """Fetch all packages with npm; the vendor folder is replaced only when all are complete.

    Raises: SkinedgeError without npm, or when a package cannot be fetched or is not the pinned one.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise SkinedgeError("npm is not installed; it is needed to fetch the page's libraries", todo="Install Node.js.")
    vendor.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(vendor.parent) as work:
        fresh = work / "fresh"
        for package in packages():
            extract(package, _fetch_archive(npm, package, work), fresh)
        put_in_place(fresh, vendor, replace=True)


def extract(package: Package, archive: Path, to: Path) -> None:
    """Extract a package's required files from its archive, and compress each.

    Raises: SkinedgeError when the archive is not the pinned one, or lacks a file.
    """
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != package.sha256:
        raise SkinedgeError(f"the archive has sha256 {digest}, expected {package.sha256}", where=_spec(package))
    with tarfile.open(archive) as members:
        for path, name in package.files.items():
            try:
                content = members.extractfile(f"package/{path}")
            except KeyError:
                content = None
            if content is None:
                raise SkinedgeError(f"the archive has no file {path}", where=_spec(package))
            target = compressed(to, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(lzma.compress(content.read()))


def _fetch_archive(npm: str, package: Package, work: Path) -> Path:
    """Fetch the package's archive into `work`; return its path."""
    command = [npm, "pack", "--silent", "--ignore-scripts", _spec(package)]
    completed = run_program(command, cwd=work)
    lines = completed.stdout.split()
    if completed.returncode or not lines or not (work / lines[-1]).is_file():
        reason = (completed.stderr or completed.stdout).strip()[-300:] or f"npm exits with {completed.returncode}"
        raise SkinedgeError(f"npm cannot fetch the package ({reason})", where=_spec(package))
    return work / lines[-1]


def _spec(package: Package) -> str:
    return f"{package.name}@{package.version}"


def main() -> int:
    """Fetch the libraries; return the exit code of `python -m skinedge_bench.web.assets`."""
    try:
        fetch()
    except (SkinedgeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    files = [path for path in VENDOR.rglob("*") if path.is_file()]
    print(f"{len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:.1f} MB, in {VENDOR}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
