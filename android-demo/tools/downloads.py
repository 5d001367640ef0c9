"""Download files from Maven Central, pinned by sha256 in downloads.toml, once into .cache/android/downloads."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from steps import CACHE, BuildError, Unavailable, run, tool

from skinedge.core.files import sha256
from skinedge.system.progress import note

PINS = Path(__file__).with_name("downloads.toml")
FOLDER = CACHE / "downloads"
PLUGIN = "3.6.1"  # of maven-dependency-plugin


@dataclass(frozen=True)
class Artifact:
    """A file of Maven Central. coordinates: group:artifact:version[:type], type 'jar' by default."""

    coordinates: str
    sha256: str

    @property
    def parts(self) -> tuple[str, str, str, str]:
        group, artifact, version, *kind = self.coordinates.split(":")
        return group, artifact, version, kind[0] if kind else "jar"

    @property
    def path(self) -> Path:
        _, artifact, version, kind = self.parts
        return FOLDER / f"{artifact}-{version}.{kind}"


def pinned(group: str) -> list[Artifact]:
    """Return the artifacts of a group of downloads.toml, in its order."""
    return [Artifact(*item) for item in tomllib.loads(PINS.read_text(encoding="utf-8"))[group].items()]


def fetch(group: str) -> list[Path]:
    """Download a group's files if needed; return their paths in the order of downloads.toml.

    Raises: Unavailable if the download fails; BuildError for a file with another hash, which is removed.
    """
    artifacts = pinned(group)
    missing = [artifact for artifact in artifacts if not artifact.path.is_file()]
    if missing:
        note(f"downloading {group}: {', '.join(artifact.path.name for artifact in missing)}")
        _download(missing)
    for artifact in artifacts:
        actual = sha256(artifact.path)
        if actual != artifact.sha256:
            artifact.path.unlink()
            raise BuildError(
                f"{artifact.coordinates} has sha256 {actual}, not the pinned {artifact.sha256}; it was removed",
                where=str(artifact.path),
                todo="Run it again; if the error persists, the file at its source differs from the pinned one.",
            )
    return [artifact.path for artifact in artifacts]


def fetch_one(group: str) -> Path:
    """Return the path of the only file of a group; raises like `fetch`."""
    (path,) = fetch(group)
    return path


def _download(artifacts: list[Artifact]) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    project = CACHE / "pom.xml"
    project.write_text(_project(artifacts), encoding="utf-8")
    goal = f"org.apache.maven.plugins:maven-dependency-plugin:{PLUGIN}:copy"
    try:
        run([tool("mvn", "maven"), "-q", "-B", "-f", project, goal])
    except BuildError as error:
        reason = next((line for line in str(error).splitlines() if "ERROR" in line), str(error))
        raise Unavailable(f"Maven cannot download {', '.join(a.coordinates for a in artifacts)}: {reason}") from None


def _project(artifacts: list[Artifact]) -> str:
    """Return a Maven project that only copies the artifacts, without their dependencies."""
    names = ("groupId", "artifactId", "version", "type")
    items = [
        "".join(f"<{name}>{escape(part)}</{name}>" for name, part in zip(names, artifact.parts, strict=True))
        for artifact in artifacts
    ]
    wanted = "".join(f"<artifactItem>{item}</artifactItem>" for item in items)
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>org.skinedge</groupId><artifactId>downloads</artifactId><version>1</version>"
        "<packaging>pom</packaging><build><plugins><plugin><groupId>org.apache.maven.plugins</groupId>"
        f"<artifactId>maven-dependency-plugin</artifactId><version>{PLUGIN}</version><configuration>"
        f"<outputDirectory>{escape(str(FOLDER))}</outputDirectory><artifactItems>{wanted}</artifactItems>"
        "</configuration></plugin></plugins></build></project>"
    )
