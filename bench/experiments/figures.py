"""Figures of the training benchmark: pure functions from the measurements of each arm to the printed table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

ARMS = ("plain", "ours")


@dataclass(frozen=True)
class ArmRun:
    """Measurements of one arm in its own process.

    images: of one epoch; seen_sha256: of the image paths of each step, in order; cache_seconds: decoding the training
    and validation images once (0 in the plain arm); epoch_seconds: steps of each epoch, including waiting for images;
    whole_seconds: from the first image to the last validation, with checkpoints; setup_seconds: network, hashing,
    choice of precision, writing the run; peak_rss_mib: of the process; workers_peak_rss_mib: of its largest loader
    process including shared pages, 0 without one; val_balanced_accuracy, train_loss: of each epoch; foreign_share:
    share of the cores' time used by other processes, 0..1, None if unknown.
    """

    arm: str
    size: int
    seed: int
    precision: str
    threads: int
    images: int
    steps: int
    seen_sha256: str
    cache_seconds: float
    epoch_seconds: tuple[float, ...]
    whole_seconds: float
    setup_seconds: float
    peak_rss_mib: float
    workers_peak_rss_mib: float
    val_balanced_accuracy: tuple[float, ...]
    train_loss: tuple[float, ...]
    foreign_share: float | None = None


@dataclass(frozen=True)
class ArmFigures:
    """One arm at one size, over all seeds. Rates are training images/s.

    every_epoch: all epochs and building the cache; steady: from the second epoch on, None with one epoch; whole: with
    validation and checkpoints too; peak_rss_mib: maximum; balanced_accuracy: after the last epoch, of each seed.
    """

    every_epoch: float
    steady: float | None
    whole: float
    cache_seconds: float
    peak_rss_mib: float
    workers_peak_rss_mib: float
    balanced_accuracy: tuple[float, ...]


@dataclass(frozen=True)
class Comparison:
    """Both arms at one size. Ratios are ours / plain.

    accuracy_difference: ours minus plain, mean over seeds; interval: its 95 % t interval, None with one seed.
    """

    size: int
    plain: ArmFigures
    ours: ArmFigures
    every_epoch_ratio: float
    steady_ratio: float | None
    whole_ratio: float
    memory_ratio: float
    accuracy_difference: float
    interval: tuple[float, float] | None


def compare(runs: Sequence[ArmRun], size: int) -> Comparison:
    """Compare the arms on their runs at this size.

    Raises: ValueError when the arms did not see the same images in the same steps for the same seeds.
    """
    pairs = {arm: sorted((r for r in runs if r.size == size and r.arm == arm), key=lambda r: r.seed) for arm in ARMS}
    work = [[(r.seed, r.images, r.steps, r.seen_sha256) for r in pairs[arm]] for arm in ARMS]
    if work[0] != work[1] or not work[0]:
        raise ValueError(f"the arms did different work at {size} px: {work[0]} and {work[1]}")
    plain, ours = (arm_figures(pairs[arm]) for arm in ARMS)
    differences = [o - p for o, p in zip(ours.balanced_accuracy, plain.balanced_accuracy, strict=True)]
    return Comparison(
        size=size,
        plain=plain,
        ours=ours,
        every_epoch_ratio=ours.every_epoch / plain.every_epoch,
        steady_ratio=ours.steady / plain.steady if ours.steady and plain.steady else None,
        whole_ratio=ours.whole / plain.whole,
        memory_ratio=ours.peak_rss_mib / plain.peak_rss_mib,
        accuracy_difference=sum(differences) / len(differences),
        interval=t_interval(differences),
    )


def arm_figures(runs: Sequence[ArmRun]) -> ArmFigures:
    """Pool the runs of one arm: images of all seeds / seconds of all seeds."""
    seen = sum(run.images * len(run.epoch_seconds) for run in runs)
    cache, trained = sum(run.cache_seconds for run in runs), sum(sum(run.epoch_seconds) for run in runs)
    later = sum(sum(run.epoch_seconds[1:]) for run in runs)
    later_seen = sum(run.images * (len(run.epoch_seconds) - 1) for run in runs)
    return ArmFigures(
        every_epoch=seen / (cache + trained),
        steady=later_seen / later if later else None,
        whole=seen / sum(run.whole_seconds for run in runs),
        cache_seconds=cache / len(runs),
        peak_rss_mib=max(run.peak_rss_mib for run in runs),
        workers_peak_rss_mib=max(run.workers_peak_rss_mib for run in runs),
        balanced_accuracy=tuple(run.val_balanced_accuracy[-1] for run in runs),
    )


def t_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Return Student's interval for the mean of independent differences (Student 1908); None for fewer than two."""
    from scipy.stats import t  # type: ignore[import-untyped]

    count = len(values)
    if count < 2:
        return None
    mean = sum(values) / count
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1) / count)
    half = float(t.ppf((1 + confidence) / 2, count - 1)) * spread
    return mean - half, mean + half


def text(comparisons: Sequence[Comparison]) -> str:
    """Return the table as text."""
    lines = [
        f"{'px':>4} {'arm':6} {'images/s':>9} {'steady':>7} {'whole':>7} {'cache s':>8} {'peak MiB':>9} {'loader':>7}"
        "  balanced accuracy"
    ]
    for c in comparisons:
        for name, f in (("plain", c.plain), ("ours", c.ours)):
            scores = " ".join(f"{score:.3f}" for score in f.balanced_accuracy)
            lines.append(
                f"{c.size:>4} {name:6} {f.every_epoch:>9.1f} {_maybe(f.steady, 7, 1)} {f.whole:>7.1f} "
                f"{f.cache_seconds:>8.1f} {f.peak_rss_mib:>9.0f} {f.workers_peak_rss_mib:>7.0f}  {scores}"
            )
        low_high = (
            "one seed: no interval" if c.interval is None else f"95 % {c.interval[0]:+.3f} to {c.interval[1]:+.3f}"
        )
        lines.append(
            f"{c.size:>4} {'ratio':6} {c.every_epoch_ratio:>9.2f} {_maybe(c.steady_ratio, 7, 2)} {c.whole_ratio:>7.2f} "
            f"{'':>8} {c.memory_ratio:>9.2f} {'':>7}  {c.accuracy_difference:+.3f} ({low_high})"
        )
    lines.append(
        "images/s: all epochs and building the cache; steady: from the second epoch; whole: with validation and "
        "checkpoints\nloader: peak MiB of the plain arm's larger loader process, not in its own; ratio: ours / plain"
    )
    return "\n".join(lines)


def _maybe(value: float | None, width: int, digits: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:>{width}.{digits}f}"
