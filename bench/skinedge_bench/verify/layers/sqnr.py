"""Distance of a tensor of a small file from fp32: signal to noise and cosine, from sums over images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CEILING = 120.0  # dB; about the precision of float32
SILENT = 1e-6  # of the mean energy of the channels: a channel below it is silent on these images


@dataclass(frozen=True)
class SqnrStatistics:
    """Sums over the positions of a tensor per channel: s*s, s*q, q*q, (C,) float64. s: fp32, q: small file."""

    places: int
    ss: NDArray[np.float64]
    sq: NDArray[np.float64]
    qq: NDArray[np.float64]

    @classmethod
    def of(cls, exact: NDArray[np.float32], small: NDArray[np.float32]) -> SqnrStatistics:
        """Sum over exact, small: (positions, C)."""
        s, q = exact.astype(np.float64), small.astype(np.float64)
        ss, sq, qq = (np.einsum("pc,pc->c", a, b) for a, b in ((s, s), (s, q), (q, q)))
        return cls(len(s), ss, sq, qq)

    def plus(self, other: SqnrStatistics) -> SqnrStatistics:
        """Add the sums of other images."""
        return SqnrStatistics(self.places + other.places, self.ss + other.ss, self.sq + other.sq, self.qq + other.qq)


def noise(sums: SqnrStatistics, free: bool) -> NDArray[np.float64]:
    """Energy of the difference of each channel, (C,), with q unchanged, or (free) with q times the best factor >= 0.

    The factor is that of least squares, sq / qq, so a channel's noise is ss - sq^2 / qq, divided by (n - 1) / n, the
    share of the noise of n positions that fitting a factor leaves. It is at most the channel's own energy, so that a
    channel that is silent in fp32 does not count, whatever its factor. A channel that the small file silences or
    reverses has noise ss.
    """
    if not free:
        return np.maximum(sums.ss - 2 * sums.sq + sums.qq, 0.0)
    explained = np.maximum(sums.sq, 0.0) ** 2 / np.where(sums.qq > 0, sums.qq, 1.0)
    residual = np.maximum(sums.ss - explained, 0.0) * (sums.places / max(sums.places - 1, 1))
    limited: NDArray[np.float64] = np.minimum(residual, sums.ss)
    return limited


def sqnr(sums: SqnrStatistics, free: bool) -> float:
    """10 log10(signal / noise) in dB, at most 120; NaN if fp32 is all zero."""
    signal, noise_energy = float(sums.ss.sum()), float(noise(sums, free).sum())
    if signal == 0:
        return float("nan")
    return 10 * float(np.log10(signal / max(noise_energy, signal * 10 ** (-CEILING / 10))))


def cosines(sums: SqnrStatistics) -> NDArray[np.float64]:
    """Cosine of both files' values in each channel that is not silent in fp32, (<= C,); 0 if q is all zero."""
    active = sums.ss > SILENT * sums.ss.mean()
    size = np.sqrt(sums.ss * sums.qq)[active]
    cosine: NDArray[np.float64] = np.clip(sums.sq[active] / np.where(size > 0, size, 1.0), -1.0, 1.0)
    return cosine


def share(db: float) -> float:
    """Convert an SQNR in dB to the noise as a share of the signal's energy, at most 1."""
    return min(float(10 ** (-db / 10)), 1.0)
