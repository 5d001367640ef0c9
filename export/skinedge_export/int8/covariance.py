"""Mean and covariance of a convolution's inputs on the calibration images, and the factor that rounding needs.

Sums are in float64 and of inputs minus the first batch's mean: a channel that ReLU6 saturates has mean 6 and variance
3e-4, and E[xx'] - mm' of such numbers in float32 is noise. (Chan, Golub and LeVeque 1983, "Algorithms for computing the
sample variance", shifted data.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from skinedge_export.int8.finite import require_finite

if TYPE_CHECKING:
    import torch
    from torch import nn

DAMPING = 0.01  # share of the mean variance added to each variance, to keep the covariance invertible
LEAST_DAMPING = 1e-8  # lower bound as a share of the mean square, for channels that hardly vary
MORE_DAMPING = (0.0, 0.1, 1.0, 10.0)  # shares of the mean variance, tried in turn until factoring succeeds
PATCHES = 64  # sampled positions per image and layer
FEWER = 16  # sampled positions for small filters, whose covariance has few entries
SMALL = 64  # largest number of inputs of a small filter


def grouped(conv: nn.Conv2d) -> torch.Tensor:
    """Return the weight as (G, O / G, K): K inputs to each of the O / G filters of G groups."""
    weight: torch.Tensor = conv.weight.detach()
    return weight.reshape(conv.groups, weight.shape[0] // conv.groups, -1)


class RunningCovariance:
    """Running sums of a convolution's inputs and of their products, over patches sampled from every image.

    name: of the layer, for error messages.
    """

    def __init__(self, conv: nn.Conv2d, name: str = "") -> None:
        import torch

        groups, _, size = grouped(conv).shape
        self._conv = conv
        self._name = name
        self._places = FEWER if size <= SMALL else PATCHES
        self._count = 0
        self._shift: torch.Tensor | None = None  # (G, K, 1) float64: the first batch's mean
        self._sum = torch.zeros(groups, size, dtype=torch.float64)
        self._products = torch.zeros(groups, size, size, dtype=torch.float64)
        self._generator = torch.Generator().manual_seed(0)
        self._low, self._high = 0.0, 0.0

    def add(self, module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        """Add a batch; a forward hook: args[0] is (N, C, H, W) float32.

        Raises: GateError if an input is not finite.
        """
        low, high = (float(limit) for limit in args[0].aminmax())
        require_finite(self._name, low, high)
        self._low, self._high = min(self._low, low), max(self._high, high)
        columns = self._patches(args[0]).double()
        if self._shift is None:
            self._shift = columns.mean(dim=2, keepdim=True)
        columns = columns - self._shift
        self._count += columns.shape[2]
        self._sum += columns.sum(dim=2)
        self._products += columns @ columns.transpose(1, 2)

    def _patches(self, images: torch.Tensor) -> torch.Tensor:
        """Sample patches inside the image, (G, K, patches)."""
        import torch

        conv = self._conv
        (high, wide), (reach_y, reach_x) = conv.kernel_size, conv.dilation
        span_y, span_x = (high - 1) * reach_y + 1, (wide - 1) * reach_x + 1
        height, width = images.shape[2:]
        top = torch.randint(max(1, height - span_y + 1), (self._places,), generator=self._generator)
        left = torch.randint(max(1, width - span_x + 1), (self._places,), generator=self._generator)
        ys = (top[:, None, None] + torch.arange(high)[:, None] * reach_y).clamp(max=height - 1)
        xs = (left[:, None, None] + torch.arange(wide) * reach_x).clamp(max=width - 1)
        positions = (ys * width + xs).flatten()
        pixels = images.permute(0, 2, 3, 1).reshape(len(images), height * width, -1)  # a view of channels-last images
        patches = pixels.index_select(1, positions).view(len(images) * self._places, -1).t()
        if conv.groups > 1:  # many small products, which are slow over a transposed view
            patches = patches.contiguous()
        return patches.view(high * wide, conv.groups, -1, patches.shape[1]).permute(1, 2, 0, 3).flatten(1, 2)

    @property
    def span(self) -> float:
        """Largest minus smallest input, zero included."""
        return self._high - self._low

    @property
    def mean(self) -> torch.Tensor:
        """Mean input, (G, K) float64."""
        shift = 0.0 if self._shift is None else self._shift[:, :, 0]
        return shift + self._sum / self._count

    def covariance(self) -> torch.Tensor:
        """Return the covariance, (G, K, K) float64, damped to be invertible; the identity if all inputs are zero."""
        import torch

        offset = self._sum / self._count
        centred = self._products / self._count - offset[:, :, None] * offset[:, None, :]
        variance = centred.diagonal(dim1=1, dim2=2).clamp_min(0)
        energy = variance + self.mean.square()
        damping = torch.maximum(DAMPING * variance.mean(dim=1), LEAST_DAMPING * energy.mean(dim=1))
        damping = torch.where(damping > 0, damping, torch.ones_like(damping))
        return centred + damping[:, None, None] * torch.eye(centred.shape[1], dtype=torch.float64)


def inverse_roots(covariance: torch.Tensor) -> tuple[torch.Tensor, Sequence[int]]:
    """Return the upper triangular U of each group whose U'U is a multiple of the covariance's inverse.

    Rounding needs U up to a factor only. A covariance that cannot be factored is damped more; if that fails too, U is
    the identity, which gives rounding to the nearest step.

    Args:
        covariance: (G, K, K) float64, finite.

    Returns:
        (G, K, K) float32, and the indices of the groups whose U is the identity.
    """
    import torch

    eye = torch.eye(covariance.shape[1], dtype=torch.float64)
    level = covariance.diagonal(dim1=1, dim2=2).mean(dim=1).clamp_min(torch.finfo(torch.float64).tiny)
    scaled = covariance / level[:, None, None]
    roots = eye.expand_as(covariance).clone()
    failed = torch.arange(len(covariance))
    for extra in MORE_DAMPING:
        # C = MM' with M = JLJ upper (J reverses the order, JCJ = LL'), so U = JL^-1J
        lower, status = torch.linalg.cholesky_ex((scaled[failed] + extra * eye).flip(1, 2))
        upper = torch.linalg.solve_triangular(lower, eye.expand_as(lower), upper=False).flip(1, 2)
        good = (status == 0) & torch.isfinite(upper.float()).flatten(1).all(dim=1)
        roots[failed[good]] = upper[good]
        failed = failed[~good]
        if not len(failed):
            break
    return roots.float(), failed.tolist()
