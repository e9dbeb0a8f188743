"""Diagonal normals, and normals behind a tanh: pure functions of mean and std.

All functions work element by element on tensors [..., n]; sums over n are the caller's.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

TANH_LIMIT = 0.999  # Actions are clamped to +-this before atanh, which is infinite at 1.


class Normal(NamedTuple):
    """A diagonal normal.

    Attributes:
        mean: Means [..., n].
        std: Standard deviations [..., n].
    """

    mean: Tensor
    std: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Reparameterised: mean + std * noise, with noise [..., n] ~ N(0, 1)."""
        return torch.addcmul(self.mean, self.std, noise)

    def detach(self) -> Normal:
        """The same without gradients."""
        return Normal(self.mean.detach(), self.std.detach())


def normal_log_prob(value: Tensor, normal: Normal) -> Tensor:
    """Log N(value; mean, std), per dimension, in nats."""
    error = (value - normal.mean) / normal.std
    return -0.5 * error.square() - normal.std.log() - 0.5 * math.log(2 * math.pi)


def normal_kl(first: Normal, second: Normal) -> Tensor:
    """KL(first || second), per dimension, in nats; that of tanh-normals is the same."""
    ratio = (first.std / second.std).square()
    distance = ((first.mean - second.mean) / second.std).square()
    return 0.5 * (ratio + distance - 1 - ratio.log())


def tanh_log_prob(value: Tensor, normal: Normal) -> Tensor:
    """Log density of tanh(x), x ~ normal, at value in (-1, 1), per dimension, in nats."""
    value = value.clamp(-TANH_LIMIT, TANH_LIMIT)
    return normal_log_prob(torch.atanh(value), normal) - torch.log1p(-value.square())
