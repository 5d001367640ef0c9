"""Predictions that outlive the process: a JSON line for each image, written as it comes, read again by `--resume`.

A line is a document of `predict` with two keys added: `image_sha256`, and last `sum`, a checksum of the bytes before
it. A process that is killed leaves complete lines and at most one incomplete line at the end, which is dropped. A line
counts only for the same bytes, of model and image. From the first line on that was altered, all are judged again. The
checksum is no secret: it finds damage and careless edits, not a forger who computes it anew.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
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
from skinedge_bench.runtimes.session import SUM_TOLERANCE

LINE = 1000  # bytes of a kept prediction, about
WORTH = 60  # images that are judged in the time in which a process starts
_START = b'{"schema": "skinedge.predict/'
_SUM = b', "sum": "'


@dataclass(frozen=True)
class Work:
    """How to go through images.

    jobs: processes, None for one on each usable core where starting them pays; kept: the file that takes the
    predictions as they come, None for none; resume: go on where that file ends, where there is one.
    Raises: ConfigError for more processes than cores, for resuming without a file, and for a file that is there
    and is not to be resumed.
    """

    jobs: int | None = None
    kept: Path | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        if self.jobs is not None and not 1 <= self.jobs <= usable_cores():
            raise ConfigError(f"--jobs {self.jobs}: this machine lets us use 1 to {usable_cores()}")
        if self.resume and self.kept is None:
            raise ConfigError("nothing is kept to go on from", todo="--resume goes with --out.")
        if self.kept is not None and self.kept.exists() and not self.kept.is_file():
            raise ConfigError("is no file", where=str(self.kept), todo="Name a file with --out.")
        if self.kept is not None and self.kept.exists() and not self.resume:
            todo = "Go on with them: --resume. Or remove the file."
            raise ConfigError("predictions are here already", where=str(self.kept), todo=todo)

    def processes(self, images: int) -> int:
        """How many processes judge so many images."""
        return self.jobs or max(1, min(usable_cores(), images // WORTH))


def predictions(
    model: LoadedModel, sources: Iterable[Source], total: int, work: Work
) -> Generator[Prediction, None, None]:
    """One for each of the `total` images, in their order: those that are kept already, then the others.

    A prediction is kept when the next one is asked for, so one that the caller does not accept is not. To stop at
    once, close it, as `contextlib.closing` does.
    Raises: as `predict` does; DataError when the file is of another model, of other images, or no such file;
    BundleError when it cannot be written, or another process writes it.
    """
    jobs = work.processes(total)
    if work.kept is None:
        yield from predict(model, sources, jobs)
        return
    check_writable(work.kept.parent, total * LINE)
    with locked(work.kept, "another process writes this file"), _appending(work.kept) as stream:
        left, done, intact_bytes = iter(sources), 0, 0
        for line in _intact_lines(work.kept, model):
            yield _known(line, next(left, None), model, f"{work.kept}, line {done + 1}")
            done, intact_bytes = done + 1, intact_bytes + len(line)
        stream.truncate(intact_bytes)
        if done:
            note(f"resuming after {done} images ({work.kept.name})")
        with closing(predict(model, left, jobs)) as coming:
            for prediction in coming:
                yield prediction
                _append(stream, prediction, model, work.kept)


def _known(line: bytes, source: Source | None, model: LoadedModel, where: str) -> Prediction:
    """The prediction in a line, which must be this model's, of this image as it is now."""
    if not line.startswith(_START):  # and so was not checked for its checksum
        raise _differs("is no prediction of an image", where)
    try:
        raw = json_io.parse_json(line, dict[str, Any], where)
        found = Prediction.from_document(raw)
        made_with = (raw["model_sha256"], raw["model_id"], tuple(raw.get("probabilities", model.labels)))
    except (BundleError, ValueError, KeyError, TypeError, AttributeError):
        raise _differs("is no prediction of an image", where) from None
    if source is None:
        raise _differs("is of one image more than there are now", where)
    if found.image != source.name:
        raise _differs(f"is of the image {found.image}; now the image at this place is {source.name}", where)
    here = (model.sha256, model.model_id, model.labels)
    for name, then, now in zip(("sha256", "run", "classes"), made_with, here, strict=True):
        if then != now:
            raise _differs(f"was made with another model ({name}: {then}, now {now})", where)
    if found.image_sha256 != _digest(source):
        raise _differs(f"was made of other bytes: {source.name} was changed since", where)
    return found


def _intact_lines(path: Path, model: LoadedModel) -> Iterator[bytes]:
    """The lines before the first altered one; says how many are judged again. Raises: as `_whole_lines`."""
    lines = _whole_lines(path)
    for number, line in enumerate(lines, 1):
        if not line.startswith(_START) or _is_intact(line, model):
            yield line
            continue
        altered = 1 + sum(_require_ours(later, path) for later in lines)
        reason = "does not match its checksum" if _SUM in line else "has no checksum (an earlier version wrote it)"
        note(f"{path.name}: line {number} {reason}; {altered} line(s) from there on are judged again")
        return


def _is_intact(line: bytes, model: LoadedModel) -> bool:
    """Whether a line has the checksum of its bytes and says what a model can say: finite numbers that fit together."""
    body = line.rpartition(_SUM)[0]
    if line != _with_sum(body):
        return False
    try:
        raw = json_io.parse_json(line, dict[str, Any], "line")
        return "error" in raw or _is_consistent(raw, Prediction.from_document(raw), model)
    except (BundleError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _is_consistent(raw: dict[str, Any], prediction: Prediction, model: LoadedModel) -> bool:
    """Whether label, probability and malignant score follow from the probabilities, which sum to 1."""
    row, labels = prediction.probabilities, tuple(raw["probabilities"])
    if row is None or not math.isclose(float(row.sum()), 1, abs_tol=SUM_TOLERANCE):  # false for NaN and infinities too
        return False
    if labels == model.labels and model.malignant is not None:
        score = float(malignant_score(row[None], model.malignant)[0])
    else:
        score = raw["malignant_probability"]  # of another model, which is refused
    said = prediction.document(labels)
    return all(raw[key] == value for key, value in said.items()) and raw["malignant_probability"] == score


def _require_ours(line: bytes, path: Path) -> bool:
    """True for a line that `predict` wrote. Raises: DataError for any other, which must not be deleted."""
    if not line.startswith(_START):
        raise _differs("has lines that are no predictions", str(path))
    return True


def _with_sum(body: bytes) -> bytes:
    """A JSON object without its last brace -> the line with its checksum: 16 hex digits of the sha256 of `body`."""
    return body + _SUM + hashlib.sha256(body).hexdigest()[:16].encode() + b'"}\n'


def _differs(what: str, where: str) -> DataError:
    return DataError(what, where=where, todo="Resume with the same model and images, or start a new file.")


def _digest(source: Source) -> str | None:
    """sha256 of the image's bytes now; that which is expected of it is not computed again."""
    try:
        return source.sha256 or source.read()[1]
    except DataError:
        return None


def _whole_lines(path: Path) -> Iterator[bytes]:
    """Raises: DataError for a last line without an end that is none of ours: nothing else may be dropped."""
    with path.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                yield line
            elif not _START.startswith(line[: len(_START)]):
                raise _differs("ends in something else than a prediction", str(path))


@contextlib.contextmanager
def _appending(path: Path) -> Iterator[IO[bytes]]:
    """The file, unbuffered, to append whole lines to; removed again if none comes into it."""
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
    body = {**prediction.document(model.labels), "image_sha256": prediction.image_sha256}
    full = json_io.document("predict", body, model_id=model.model_id, model_sha256=model.sha256)
    line = _with_sum(json.dumps(full, allow_nan=False).encode().removesuffix(b"}"))
    try:
        if stream.write(line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        what = f"cannot write ({error.strerror}); what is finished stays"
        raise BundleError(what, where=str(path), todo="Free some space and go on with --resume.") from None
