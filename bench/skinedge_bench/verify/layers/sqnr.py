"""How far a tensor of a small file is from fp32's: signal to noise and cosine, from sums that images add to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CEILING = 120.0  # dB; float32 itself is not more exact
SILENT = 1e-6  # of the mean channel's energy: a channel below says nothing on these images


@dataclass(frozen=True)
class SqnrStatistics:
    """Sums over places of one tensor in both files, by channel: of s*s, s*q and q*q, (C,) float64. s: fp32."""

    places: int
    ss: NDArray[np.float64]
    sq: NDArray[np.float64]
    qq: NDArray[np.float64]

    @classmethod
    def of(cls, exact: NDArray[np.float32], small: NDArray[np.float32]) -> SqnrStatistics:
        """exact, small: (places, C)."""
        s, q = exact.astype(np.float64), small.astype(np.float64)
        ss, sq, qq = (np.einsum("pc,pc->c", a, b) for a, b in ((s, s), (s, q), (q, q)))
        return cls(len(s), ss, sq, qq)

    def plus(self, other: SqnrStatistics) -> SqnrStatistics:
        return SqnrStatistics(self.places + other.places, self.ss + other.ss, self.sq + other.sq, self.qq + other.qq)


def noise(seen: SqnrStatistics, free: bool) -> NDArray[np.float64]:
    """Energy of the difference of each channel, (C,), with q as it is, or (free) with q times the best factor >= 0.

    The factor is that of least squares, sq / qq, so a channel's noise is ss - sq^2 / qq: never more than its own
    energy, so that one that is silent in fp32 cannot count, whatever its factor; divided by the share (n - 1) / n that
    fitting a factor leaves of n places' noise. A channel that the small file silences or turns round has noise ss.
    """
    if not free:
        return np.maximum(seen.ss - 2 * seen.sq + seen.qq, 0.0)
    explained = np.maximum(seen.sq, 0.0) ** 2 / np.where(seen.qq > 0, seen.qq, 1.0)
    left = np.maximum(seen.ss - explained, 0.0) * (seen.places / max(seen.places - 1, 1))
    kept: NDArray[np.float64] = np.minimum(left, seen.ss)
    return kept


def sqnr(seen: SqnrStatistics, free: bool) -> float:
    """10 log10(signal / noise) in dB, at most 120; NaN where fp32 is zero throughout."""
    signal, lost = float(seen.ss.sum()), float(noise(seen, free).sum())
    if signal == 0:
        return float("nan")
    return 10 * float(np.log10(signal / max(lost, signal * 10 ** (-CEILING / 10))))


def cosines(seen: SqnrStatistics) -> NDArray[np.float64]:
    """The cosine between both files' values in each channel that says something in fp32, (<= C,); 0 if q is silent."""
    speaks = seen.ss > SILENT * seen.ss.mean()
    size = np.sqrt(seen.ss * seen.qq)[speaks]
    found: NDArray[np.float64] = np.clip(seen.sq[speaks] / np.where(size > 0, size, 1.0), -1.0, 1.0)
    return found


def share(db: float) -> float:
    """Noise as a share of the signal's energy, of an SQNR in dB: at most 1, all is lost."""
    return min(float(10 ** (-db / 10)), 1.0)
