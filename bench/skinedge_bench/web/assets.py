"""The libraries that `skinedge web`'s page runs models with: pinned npm packages, of which few files are kept.

`python -m skinedge_bench.web.assets` (`make web`) fetches them into `page/vendor`, each file compressed: 33 MB would be
an eighth of what the base install may take on a Raspberry Pi.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import sys
import tarfile
from collections.abc import Mapping
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
    """One npm package. sha256: of its archive; runtime: of the page, that needs it ('litert.js', 'onnxruntime-web');
    license: SPDX; files: path in the package -> path under the vendor folder."""

    name: str
    version: str
    license: str
    sha256: str
    runtime: str
    files: Mapping[str, str]


@dataclass(frozen=True)
class Assets:
    """page/assets.toml."""

    package: tuple[Package, ...]


def packages() -> tuple[Package, ...]:
    """Those that page/assets.toml names."""
    return read_toml(PAGE / "assets.toml", Assets).package


def vendored(runtime: str, vendor: Path = VENDOR) -> dict[str, bytes]:
    """Path under the vendor folder -> content, of all that one of the page's runtimes needs.

    Raises: SkinedgeError when one is not there.
    """
    names = [name for package in packages() if package.runtime == runtime for name in package.files.values()]
    missing = sorted(name for name in names if not compressed(vendor, name).is_file())
    if missing:
        raise SkinedgeError(
            f"this installation lacks the files that run a model in a browser ({missing[0]})",
            where=str(vendor),
            todo="Fetch them: make web   (in a clone of the repository; a wheel built after it has them)",
        )
    return {name: gzip.decompress(compressed(vendor, name).read_bytes()) for name in names}


def compressed(vendor: Path, name: str) -> Path:
    """Where a file of a package lies."""
    return vendor / f"{name}.gz"


def version(runtime: str) -> str:
    """Of the first package that one of the page's runtimes needs."""
    return next(package.version for package in packages() if package.runtime == runtime)


def fetch(vendor: Path = VENDOR) -> None:
    """Fetch all packages with npm; the folder appears complete, or stays as it was.

    Raises: SkinedgeError without npm, when a package cannot be had, or it is another than the pinned one.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise SkinedgeError("npm is not installed, which fetches the page's libraries", todo="Install Node.js.")
    vendor.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(vendor.parent) as work:
        fresh = work / "fresh"
        for package in packages():
            keep(package, _packed(npm, package, work), fresh)
        put_in_place(fresh, vendor, replace=True)


def keep(package: Package, archive: Path, to: Path) -> None:
    """Take a package's needed files out of its archive.

    Raises: SkinedgeError when the archive is another than the pinned one, or lacks a file.
    """
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != package.sha256:
        raise SkinedgeError(f"its archive has sha256 {found}, expected {package.sha256}", where=_spec(package))
    with tarfile.open(archive) as members:
        for inside, name in package.files.items():
            try:
                content = members.extractfile(f"package/{inside}")
            except KeyError:
                content = None
            if content is None:
                raise SkinedgeError(f"it has no file {inside}", where=_spec(package))
            target = compressed(to, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(gzip.compress(content.read(), mtime=0))


def _packed(npm: str, package: Package, work: Path) -> Path:
    """The package's archive, fetched into `work`."""
    command = [npm, "pack", "--silent", "--ignore-scripts", _spec(package)]
    done = run_program(command, cwd=work)
    lines = done.stdout.split()
    if done.returncode or not lines or not (work / lines[-1]).is_file():
        reason = (done.stderr or done.stdout).strip()[-300:] or f"npm exits with {done.returncode}"
        raise SkinedgeError(f"npm cannot fetch it ({reason})", where=_spec(package))
    return work / lines[-1]


def _spec(package: Package) -> str:
    return f"{package.name}@{package.version}"


def main() -> int:
    """Exit code of `python -m skinedge_bench.web.assets`."""
    try:
        fetch()
    except (SkinedgeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    kept = [path for path in VENDOR.rglob("*") if path.is_file()]
    print(f"{len(kept)} files, {sum(path.stat().st_size for path in kept) / 1e6:.1f} MB, in {VENDOR}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
