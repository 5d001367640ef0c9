"""The options of an evaluation, checked before it starts, and the files that it writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from skinedge.core import json_io
from skinedge.core.terminal import NOTICE
from skinedge.data.read_options import DEFAULT, ReadOptions
from skinedge.system.progress import note
from skinedge_bench.evaluate import plots
from skinedge_bench.evaluate.evaluate import UNFINISHED, Evaluation, evaluate
from skinedge_bench.evaluate.tables import markdown
from skinedge_bench.loaded_model import LoadedModel, run_of
from skinedge_bench.predict.resumable import Work


@dataclass(frozen=True)
class EvaluationRequest:
    """What to evaluate on, and where to write it.

    data: folder of labelled images, None for the run's own; split: train, val, cal, test or all, None for test if the
    run knows the images; allow_train: accept images that the model was trained on; out: folder for evaluation.json,
    evaluation.md and plots, None writes nothing; jobs: number of processes, None for one per usable core; resume:
    continue the evaluation that was interrupted in `out`; reading: how to read the folder, by default as recorded in
    the run; force: replace an evaluation that is in `out`.
    Raises: ConfigError as `Work`, or if `out` is a file; MissingDependencyError for `out` without matplotlib.
    """

    data: Path | None = None
    split: str | None = None
    allow_train: bool = False
    out: Path | None = None
    jobs: int | None = None
    resume: bool = False
    reading: ReadOptions = DEFAULT
    force: bool = False

    def __post_init__(self) -> None:
        _ = self.work
        if self.out is not None:
            plots.check(self.out, replace=self.force or self.resume)

    @property
    def work(self) -> Work:
        """Number of processes, and the file of the resumable results."""
        return Work(self.jobs, self.out and self.out / UNFINISHED, self.resume)


def evaluate_and_write(model: LoadedModel, request: EvaluationRequest) -> Evaluation:
    """Evaluate a model; write the document, the Markdown page and the plots to `request.out`, all or none.

    Raises: as `evaluate`; BundleError if a file cannot be written.
    """
    bundle = run_of(model.path)
    result = evaluate(
        model,
        request.data,
        bundle,
        split=request.split,
        allow_train=request.allow_train,
        work=request.work,
        reading=request.reading,
    )
    if request.out is not None:
        _write(request.out, result, model)
    return result


def _write(out: Path, result: Evaluation, model: LoadedModel) -> None:
    full = json_io.document("evaluate", result.document, model_id=model.model_id, model_sha256=model.sha256)
    images = plots.draw(result)
    page = markdown(result.document, NOTICE, list(images))
    plots.write(out, {**images, "evaluation.md": page, "evaluation.json": json_io.to_text(full)})
    (out / UNFINISHED).unlink(missing_ok=True)
    note(f"written: evaluation.json, evaluation.md and plots in {out}")
