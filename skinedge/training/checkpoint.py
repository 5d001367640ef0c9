"""Checkpoints of a training: written atomically; the last two are kept."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skinedge.core.errors import BundleError
from skinedge.core.files import write_atomic
from skinedge.core.state_dict import difference, reading
from skinedge.core.zip_file import open_zip
from skinedge.system.progress import note
from skinedge.training.distributed import ALONE, Processes

NEWEST, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"
KEYS = {"job", "trainable", "optimizer", "progress"}


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints in one folder.

    job: fingerprint of everything that determines the result; checkpoints of other jobs are refused.
    """

    folder: Path
    job: str

    def save(self, trainable: Mapping[str, Any], optimizer: Any, progress: Mapping[str, Any]) -> None:
        """Write a checkpoint; keep the previous one beside it."""
        import torch

        content = {
            "job": self.job,
            "trainable": {name: tensor.detach() for name, tensor in trainable.items()},
            "optimizer": optimizer.state_dict(),
            "progress": dict(progress),
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        newest = self.folder / NEWEST
        pending = self.folder / "checkpoint.next.pt"
        write_atomic(pending, buffer.getvalue())
        if newest.exists():
            newest.replace(self.folder / PREVIOUS)
        pending.replace(newest)

    def restore(self, trainable: Mapping[str, Any], optimizer: Any, processes: Processes = ALONE) -> dict[str, Any]:
        """Load the newest valid checkpoint, in every process; return its progress, {} without a checkpoint.

        Raises: BundleError for a checkpoint of another job, or when every checkpoint is damaged.
        """
        content = processes.on_main(lambda: self._newest(trainable))
        if content is None:
            return {}
        for name, tensor in content["trainable"].items():
            trainable[name].data.copy_(tensor)
        with reading(self.folder, BundleError, "a folder of this training's checkpoints"):
            optimizer.load_state_dict(content["optimizer"])
        return dict(content["progress"])

    def _newest(self, trainable: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the content of the newest valid checkpoint; None without a checkpoint."""
        paths = [self.folder / name for name in (NEWEST, PREVIOUS) if (self.folder / name).exists()]
        for path in paths:
            content = self._read(path, trainable)
            if content is None:
                note(f"{path.name} is damaged; trying the previous one")
                continue
            if content["job"] != self.job:
                raise BundleError(
                    "checkpoint belongs to another training job (another model, classes, settings or version)",
                    where=str(path),
                    todo="Restore the right checkpoint, or start again with --force.",
                )
            note(f"resuming after step {content['progress']['step']} ({path.name})")
            return content
        if paths:
            raise BundleError("every checkpoint is damaged", where=str(self.folder), todo="Start again with --force.")
        return None

    def _read(self, path: Path, trainable: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the content of a checkpoint; None for a damaged file or tensors that do not fit `trainable`."""
        import torch

        try:
            with open_zip(path, BundleError, "a checkpoint") as archive:
                compressed = any(info.compress_size != info.file_size for info in archive.infolist())
                if compressed or archive.testzip() is not None:  # torch.load verifies no checksums
                    return None
            content = dict(torch.load(path, map_location="cpu", weights_only=True))
            valid = set(content) >= KEYS and isinstance(content["progress"]["step"], int)
            if valid and content["job"] == self.job and difference(trainable, content["trainable"]):
                return None
        except Exception:  # damaged bytes can make the unpickler raise any exception
            return None
        return content if valid else None
