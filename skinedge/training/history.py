"""Write the figures of a training's epochs in formats of other tools: `train --log`."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from skinedge.core.errors import one_of
from skinedge.system.requirements import TENSORBOARD, require
from skinedge.system.temporary_folder import scratch_folder

# Format -> file of the run. TensorBoard searches a folder for names with 'tfevents'.
FORMATS = {"csv": "reports/training.csv", "tensorboard": "reports/tensorboard/events.out.tfevents.0"}

Epoch = Mapping[str, float | None]


def check_log(log: str) -> None:
    """Check before training that a format can be written. log: '' for none.

    Raises: ConfigError for an unknown format; MissingDependencyError without the extra `tensorboard`.
    """
    if log:
        one_of("--log", log, tuple(FORMATS))
    if log == "tensorboard":
        require(TENSORBOARD, "tensorboard")


def write_log(log: str, path: Path, history: Sequence[Epoch]) -> None:
    """Write one row, or one step, for each epoch. log: a format; path: of its file."""
    if log == "csv":
        path.write_text(history_csv(history), encoding="utf-8")
    else:
        write_events(path, history)


def history_csv(history: Sequence[Epoch]) -> str:
    """Return the figures of the epochs as CSV, one row for each epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in history for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()


def write_events(path: Path, history: Sequence[Epoch]) -> None:
    """Write TensorBoard's event file with a scalar for each figure; step: the epoch.

    TensorBoard names the file after the host, which must not get into a run that may be published.
    """
    from torch.utils.tensorboard import SummaryWriter

    figures = [
        (name, value, int(row["epoch"] or 0))
        for row in history
        for name, value in row.items()
        if name != "epoch" and value is not None
    ]
    with scratch_folder() as folder:
        with SummaryWriter(str(folder)) as writer:
            for name, value, epoch in figures:
                writer.add_scalar(name, value, epoch)
        (events,) = folder.glob("events.*")  # beside the mark of our folder
        shutil.copyfile(events, path)
