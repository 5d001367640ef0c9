"""Resumable results: a JSON line per image, written when the image is done, and read again by `--resume`.

A line is a document of `predict` with two added keys: `image_sha256`, and at the end `sum`, a checksum of the bytes
before it. A killed process leaves complete lines and at most one incomplete line at the end, which is dropped. A line
is valid only for the same bytes of model and image. From the first altered line on, all images are predicted again.
The checksum has no secret key: it detects damage and careless edits, not deliberate forgery.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from skinedge.core import json_io
from skinedge.core.errors import BundleError, ConfigError, DataError
from skinedge.core.files import check_writable, disk_error
from skinedge.data.loading import Source
from skinedge.stats.metrics import malignant_score
from skinedge.system.cpu import usable_cores
from skinedge.system.file_lock import locked
from skinedge.system.progress import note
from skinedge_bench.loaded_model import LoadedModel
from skinedge_bench.predict.predict import Prediction, predict

LINE = 1000  # approximate bytes of a stored prediction
WORTH = 60  # images that take as long as starting a process
_START = b'{"schema": "skinedge.predict/'
_SUM = b', "sum": "'


@dataclass(frozen=True)
class Work:
    """How to process the images.

    jobs: number of processes, None for one per usable core if there are enough images; kept: file of the resumable
    results, None for none; resume: continue that file, if it exists.
    Raises: ConfigError for more processes than cores, for resuming without a file, and for an existing file without
    resume.
    """

    jobs: int | None = None
    kept: Path | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        if self.jobs is not None and not 1 <= self.jobs <= usable_cores():
            raise ConfigError(f"--jobs {self.jobs}: must be between 1 and {usable_cores()} (available cores)")
        if self.resume and self.kept is None:
            raise ConfigError("nothing to resume: no output is named", todo="Use --resume together with --out.")
        if self.kept is not None and self.kept.exists() and not self.kept.is_file():
            raise ConfigError("is not a file", where=str(self.kept), todo="Name a file with --out.")
        if self.kept is not None and self.kept.exists() and not self.resume:
            todo = "Continue them with --resume, or remove the file."
            raise ConfigError("predictions exist already", where=str(self.kept), todo=todo)

    def processes(self, images: int) -> int:
        """Return the number of processes for this number of images."""
        return self.jobs or max(1, min(usable_cores(), images // WORTH))


def predictions(
    model: LoadedModel, sources: Iterable[Source], total: int, work: Work
) -> Generator[Prediction, None, None]:
    """Yield one prediction for each of the `total` images, in input order: first the stored ones, then the others.

    A prediction is stored when the caller asks for the next one, so a prediction that the caller rejects is not. Close
    the generator to stop at once, as `contextlib.closing` does.
    Raises: as `predict`; DataError if the file is of another model or of other images, or has other lines; BundleError
    if it cannot be written, or another process writes it.
    """
    jobs = work.processes(total)
    if work.kept is None:
        yield from predict(model, sources, jobs)
        return
    check_writable(work.kept.parent, total * LINE)
    with locked(work.kept, "another process writes this file"), _appending(work.kept) as stream:
        left, done, intact_bytes = iter(sources), 0, 0
        for line in _intact_lines(work.kept, model):
            yield _stored(line, next(left, None), model, f"{work.kept}, line {done + 1}")
            done, intact_bytes = done + 1, intact_bytes + len(line)
        stream.truncate(intact_bytes)
        if done:
            note(f"resuming after {done} images ({work.kept.name})")
        with closing(predict(model, left, jobs)) as results:
            for prediction in results:
                yield prediction
                _append(stream, prediction, model, work.kept)


def _stored(line: bytes, source: Source | None, model: LoadedModel, where: str) -> Prediction:
    """Read the prediction of a line, which must be of this model and of this image's current bytes."""
    if not line.startswith(_START):  # `_intact_lines` does not check the checksum of such a line
        raise _differs("is not a prediction of an image", where)
    try:
        raw = json_io.parse_json(line, dict[str, Any], where)
        prediction = Prediction.from_document(raw)
        labels = tuple(raw.get("probabilities", model.labels))
        made_with = (raw["model_sha256"], raw["model_id"], raw.get("output"), labels)
    except (BundleError, ValueError, KeyError, TypeError, AttributeError):
        raise _differs("is not a prediction of an image", where) from None
    if source is None:
        raise _differs("has one image more than there are now", where)
    if prediction.image != source.name:
        raise _differs(f"is of the image {prediction.image}; now the image at this place is {source.name}", where)
    current = (model.sha256, model.model_id, model.output_document.get("output"), model.labels)
    for name, then, now in zip(("sha256", "run", "output", "classes"), made_with, current, strict=True):
        if then != now:
            raise _differs(f"was made with another model ({name}: {then}, now {now})", where)
    if prediction.image_sha256 != _digest(source):
        raise _differs(f"was made from other bytes: {source.name} has changed since", where)
    return prediction


def _intact_lines(path: Path, model: LoadedModel) -> Iterator[bytes]:
    """Yield the lines before the first altered line; note how many follow. Raises: as `_complete_lines`."""
    lines = _complete_lines(path)
    for number, line in enumerate(lines, 1):
        if not line.startswith(_START) or _is_intact(line, model):
            yield line
            continue
        altered = 1 + sum(_require_ours(later, path) for later in lines)
        reason = "does not match its checksum" if _SUM in line else "has no checksum (an earlier version wrote it)"
        note(f"{path.name}: line {number} {reason}; {altered} line(s) from there on are predicted again")
        return


def _is_intact(line: bytes, model: LoadedModel) -> bool:
    """Return True if the checksum of a line matches, and its numbers are finite and consistent."""
    body = line.rpartition(_SUM)[0]
    if line != _with_sum(body):
        return False
    try:
        raw = json_io.parse_json(line, dict[str, Any], "line")
        return "error" in raw or _is_consistent(raw, Prediction.from_document(raw), model)
    except (BundleError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _is_consistent(raw: dict[str, Any], prediction: Prediction, model: LoadedModel) -> bool:
    """Return True if label, probability and malignant score follow from the probabilities, which sum to 1.

    The probabilities of a multi-label file have any sum.
    """
    row, labels = prediction.probabilities, tuple(raw["probabilities"])
    if row is None or not abs(float(row.sum()) - 1) <= model.max_sum_error:  # false for NaN too
        return False
    if labels == model.labels and model.malignant is not None:
        score = float(malignant_score(row[None], model.malignant)[0])
    else:
        score = raw["malignant_probability"]  # of another model: `_stored` rejects it
    expected = prediction.document()
    return all(raw[key] == value for key, value in expected.items()) and raw["malignant_probability"] == score


def _require_ours(line: bytes, path: Path) -> bool:
    """Return True for a line that `predict` wrote. Raises: DataError for any other, which must not be deleted."""
    if not line.startswith(_START):
        raise _differs("has lines that are not predictions", str(path))
    return True


def _with_sum(body: bytes) -> bytes:
    """Close `body`, a JSON object without its last brace, with its checksum: 16 hex digits of its sha256."""
    return body + _SUM + hashlib.sha256(body).hexdigest()[:16].encode() + b'"}\n'


def _differs(what: str, where: str) -> DataError:
    return DataError(what, where=where, todo="Resume with the same model and images, or start a new file.")


def _digest(source: Source) -> str | None:
    """sha256 of the image's current bytes; the expected one if the source has it, None if it cannot be read."""
    try:
        return source.sha256 or source.read()[1]
    except DataError:
        return None


def _complete_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines that end. Raises: DataError if the last one is neither complete nor the start of a prediction."""
    with path.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                yield line
            elif not _START.startswith(line[: len(_START)]):
                raise _differs("ends in something other than a prediction", str(path))


@contextlib.contextmanager
def _appending(path: Path) -> Iterator[IO[bytes]]:
    """Open the file to append, unbuffered; remove it if it is still empty at the end."""
    try:
        stream = path.open("ab", buffering=0)
    except OSError as error:
        raise disk_error(error, path) from None
    with stream:
        try:
            yield stream
        finally:
            if not path.stat().st_size:
                path.unlink()


def _append(stream: IO[bytes], prediction: Prediction, model: LoadedModel, path: Path) -> None:
    body = {**prediction.document(), **model.output_document, "image_sha256": prediction.image_sha256}
    full = json_io.document("predict", body, model_id=model.model_id, model_sha256=model.sha256)
    line = _with_sum(json.dumps(full, allow_nan=False).encode().removesuffix(b"}"))
    try:
        if stream.write(line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        what = f"cannot write ({error.strerror}); finished predictions are kept"
        raise BundleError(what, where=str(path), todo="Free some space and continue with --resume.") from None
