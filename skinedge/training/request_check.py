"""Check the paths and settings of a training before PyTorch is imported, which takes seconds."""

from __future__ import annotations

import os
from pathlib import Path

from skinedge.core.errors import BundleError, ConfigError, DataError, one_of
from skinedge.core.files import check_writable
from skinedge.data.plan import read_plan
from skinedge.data.readers import check_folder
from skinedge.network.model import check_backbone
from skinedge.training.device import DEVICES
from skinedge.training.ensemble import teacher_runs
from skinedge.training.history import check_log
from skinedge.training.job import CONTINUE, TrainRequest
from skinedge.training.teacher import merged_run


def check_request(request: TrainRequest) -> None:
    """Check a training's device, folders and files, in the main process only: other hosts may lack them.

    Raises: ConfigError, DataError, BundleError.
    """
    one_of("device", request.device, DEVICES)
    check_log(request.log)
    if os.environ.get("RANK", "0") != "0":
        return
    check_folder(request.data)
    check_backbone(request.config.backbone)
    request.reading.located(request.data)
    if request.reading.plan is not None:
        read_plan(request.reading.plan)
    config = request.config
    if config.weights not in ("auto", "random") and not Path(config.weights).is_file():
        todo = "Valid: auto, random, or the path of a file."
        raise ConfigError(f"weights: no file {config.weights}", todo=todo)
    if config.split and not Path(config.split).is_file():
        raise DataError("no such split file", where=config.split, todo='Set split = "" to make a new split.')
    for teacher in teacher_runs(config):
        merged_run(teacher)
    if request.out.exists() and not (request.resume or request.force):
        raise BundleError("output exists", where=str(request.out), todo=f"Choose another --out. {CONTINUE}")
    check_writable(request.out.parent)
