"""Networks: layers, encoders, decoders and heads.

Submodules are named as in AIME's published state dicts, so that these load as they are.
Shapes: E embedding, F feature, A action, n size of a sensor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.checks import check_at_least, check_numbers
from agents.distributions import Normal

MIN_STD = 1e-6  # Floor of the standard deviations of policies, inverse dynamics and decoders.
VAR_FLOOR = 1e-4  # Of running variances: what hardly varies is not blown up.
LAYER_NORM_EPS = 1e-5
CACHED_IMAGES = 100
FIRST_CONVOLUTION = 2  # Of an image decoder's layers.
Activation = Literal["elu", "relu", "swish"]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "elu": functional.elu,
    "relu": functional.relu,
    "swish": functional.silu,
}
_ACTIVATION_MODULES: dict[str, type[nn.Module]] = {
    "elu": nn.ELU,
    "relu": nn.ReLU,
    "swish": nn.SiLU,
}


@dataclass(frozen=True)
class MLPConfig:
    """A stack of hidden layers: linear, layer norm where wanted, activation.

    Attributes:
        hidden_dim: Width of every hidden layer.
        hidden_layers: Number of hidden layers.
        activation: Activation function after every hidden layer.
        layer_norm: Whether every hidden layer is normalised before its activation.
        skip: Whether a linear map of the inputs is added to the outputs of the linear head, so that
            the layers learn what is left of it.
    """

    hidden_dim: int = 128
    hidden_layers: int = 2
    activation: Activation = "elu"
    layer_norm: bool = False
    skip: bool = False

    def __post_init__(self) -> None:
        check_numbers(self)
        check_at_least(1, hidden_dim=self.hidden_dim)
        check_at_least(0, hidden_layers=self.hidden_layers)


class MLP(nn.Module):
    """Hidden layers and, given an output size, a linear head: [..., in] -> [..., out]."""

    def __init__(self, in_dim: int, out_dim: int | None, config: MLPConfig) -> None:
        super().__init__()
        self.config = config
        self.skip: nn.Linear | None = None
        if config.skip and out_dim is not None:
            self.skip = nn.Linear(in_dim, out_dim, bias=False)
        layers: list[nn.Module] = []
        for _ in range(config.hidden_layers):
            layers.append(nn.Linear(in_dim, config.hidden_dim))
            if config.layer_norm:
                layers.append(nn.LayerNorm(config.hidden_dim, eps=LAYER_NORM_EPS))
            layers.append(_ACTIVATION_MODULES[config.activation]())
            in_dim = config.hidden_dim
        if out_dim is not None:
            layers.append(nn.Linear(in_dim, out_dim))
        self.net = nn.Sequential(*layers)

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        outputs: Tensor = self.net(inputs)
        return outputs if self.skip is None else outputs + self.skip(inputs)


class NormalHead(nn.Module):
    """Mean and standard deviation from two separate networks: a policy, or inverse dynamics.

    The normal is the one beneath a tanh: actions are tanh(mean + std * noise).
    """

    def __init__(
        self, in_dim: int, out_dim: int, config: MLPConfig, std_config: MLPConfig | None = None
    ) -> None:
        super().__init__()
        self.mean_net = MLP(in_dim, out_dim, config)
        self.std_net = MLP(in_dim, out_dim, std_config or config)

    def forward(self, inputs: Tensor) -> Normal:
        """[..., in] -> normal over [..., out]."""
        return Normal(self.mean_net(inputs), functional.softplus(self.std_net(inputs)) + MIN_STD)

    def means(self, inputs: Tensor) -> Tensor:
        """[..., in] -> the normal's means alone [..., out]."""
        means: Tensor = self.mean_net(inputs)
        return means


# Encoders


class ImageEncoder(nn.Module):
    """Images [..., 3, 64, 64] in 0..1 -> [..., 32 width]: 64-31-14-6-2, flattened channel first."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        channels = [3, width, 2 * width, 4 * width, 8 * width]
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            layers += [nn.Conv2d(before, after, 4, stride=2), nn.ReLU()]
        self.net = nn.Sequential(*layers[:-1])
        self.embed_dim = 32 * width

    def forward(self, images: Tensor) -> Tensor:
        """[..., 3, 64, 64] -> [..., 32 width]."""
        flat = by_parts(self.net, images.flatten(0, -4))
        return flat.reshape(*images.shape[:-3], self.embed_dim)


# Inverse dynamics


class InverseDynamics(NormalHead):
    """The state before an action, and what was observed around it -> the normal beneath it.

    Args:
        feature_dim: F.
        embed_dim: E.
        action_dim: A.
        config: The network for means.
        std_config: The network for standard deviations; None for the same.
        sees_both: Whether it sees the observation before the action, and how the one after differs,
            and not the one after alone.
        sees_state: Whether it sees the state before the action, beside what was observed.
    """

    def __init__(
        self,
        feature_dim: int,
        embed_dim: int,
        action_dim: int,
        config: MLPConfig,
        std_config: MLPConfig | None = None,
        *,
        sees_both: bool = False,
        sees_state: bool = True,
    ) -> None:
        seen = feature_dim * sees_state + (1 + sees_both) * embed_dim
        super().__init__(seen, action_dim, config, std_config)
        self.changes = Standardizer(embed_dim) if sees_both else None
        self.sees_state = sees_state

    def seen(self, before: Tensor, after: Tensor) -> Tensor:
        """What it sees of e_{t-1} and e_t [.., E]."""
        if self.changes is None:
            return after
        return torch.cat([before, self.changes(after - before)], dim=-1)

    def inputs(self, feature: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """All that it sees, of the feature of s_{t-1} [.., F], e_{t-1} and e_t [.., E]."""
        seen = self.seen(before, after)
        return torch.cat([feature, seen], dim=-1) if self.sees_state else seen


# Decoders: feature -> Normal over what is observed


class MeanDecoder(nn.Module):
    """feature [..., F] -> Normal with unit variance [..., n]."""

    def __init__(self, in_dim: int, out_dim: int, config: MLPConfig) -> None:
        super().__init__()
        self.net = MLP(in_dim, out_dim, config)

    def forward(self, feature: Tensor) -> Normal:
        """[..., F] -> normal over [..., n]."""
        return unit_normal(self.net(feature))


class MeanStdDecoder(nn.Module):
    """feature [..., F] -> Normal [..., n]; mean and std from separate networks."""

    def __init__(self, in_dim: int, out_dim: int, config: MLPConfig) -> None:
        super().__init__()
        self.mu_net = MLP(in_dim, out_dim, config)
        self.std_net = MLP(in_dim, out_dim, config)

    def forward(self, feature: Tensor) -> Normal:
        """[..., F] -> normal over [..., n]."""
        return Normal(self.mu_net(feature), functional.softplus(self.std_net(feature)) + MIN_STD)


class ConstantStdDecoder(nn.Module):
    """feature [..., F] -> Normal [..., n]; one learnt standard deviation a dimension."""

    def __init__(self, in_dim: int, out_dim: int, config: MLPConfig) -> None:
        super().__init__()
        self.mu_net = MLP(in_dim, out_dim, config)
        self.log_std = nn.Parameter(torch.zeros(out_dim))

    def forward(self, feature: Tensor) -> Normal:
        """[..., F] -> normal over [..., n]."""
        mean = self.mu_net(feature)
        return Normal(mean, (self.log_std.exp() + MIN_STD).expand_as(mean))


class ImageDecoder(nn.Module):
    """feature [..., F] -> images [..., 3, 64, 64] in 0..1, unit variance: 1-5-13-30-64.

    The first transposed convolution sees one pixel, so it is a linear map; its results lie in
    memory pixel by pixel, in which layout the others are quickest.
    """

    def __init__(self, in_dim: int, width: int = 32) -> None:
        super().__init__()
        channels, kernels = [32 * width, 4 * width, 2 * width, width, 3], [5, 5, 6, 6]
        layers: list[nn.Module] = [nn.Linear(in_dim, channels[0]), nn.Unflatten(-1, (-1, 1, 1))]
        for before, after, kernel in zip(channels[:-1], channels[1:], kernels, strict=True):
            layers += [nn.ConvTranspose2d(before, after, kernel, stride=2), nn.ReLU()]
        self.net = nn.Sequential(*layers[:-1], nn.Sigmoid())

    def forward(self, feature: Tensor) -> Normal:
        """[..., F] -> normal over [..., 3, 64, 64]."""
        first = self.net[FIRST_CONVOLUTION]
        assert isinstance(first, nn.ConvTranspose2d)
        assert first.bias is not None
        size = first.kernel_size[0]
        weight = first.weight.permute(0, 2, 3, 1).flatten(1)  # [channels, H W channels]
        flat = torch.addmm(first.bias.repeat(size**2), self.net[0](feature.flatten(0, -2)), weight)
        maps = flat.unflatten(-1, (size, size, -1)).movedim(-1, 1)
        images = by_parts(self.net[FIRST_CONVOLUTION + 1 :], maps)
        return unit_normal(images.reshape(*feature.shape[:-1], 3, 64, 64))


class Standardizer(nn.Module):
    """Values in standard deviations from the mean of some data; until `fit`, values as they are.

    Attributes:
        mean: Means [n].
        std: Standard deviations [n].
        fitted: Whether these are those of data.
    """

    mean: Tensor
    std: Tensor
    fitted: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))
        self.register_buffer("fitted", torch.zeros(()))

    @torch.no_grad()
    def fit(self, values: Tensor, floor: float = 1e-4) -> list[int]:
        """Takes mean and standard deviation of values [rows, n].

        Args:
            values: The data.
            floor: Dimensions with a smaller standard deviation count as constant.

        Returns:
            The dimensions that are constant, whose standard deviation is set to one.
        """
        std, mean = torch.std_mean(values.double(), dim=0, correction=0)
        constant = std < floor
        self.mean.copy_(mean)
        self.std.copy_(torch.where(constant, torch.ones_like(std), std))
        self.fitted.fill_(1)
        found: list[int] = constant.nonzero()[:, 0].tolist()
        return found

    def forward(self, values: Tensor) -> Tensor:
        """[..., n] -> [..., n] in standard deviations."""
        return (values - self.mean) / self.std

    def part(self, values: Tensor, columns: slice) -> Tensor:
        """The same for some of the dimensions alone."""
        return (values - self.mean[columns]) / self.std[columns]

    def invert(self, values: Tensor) -> Tensor:
        """[..., n] in standard deviations -> [..., n] in the data's own units."""
        return self.mean + self.std * values


class RunningStandardizer(nn.Module):
    """Values in standard deviations from their mean, times a gain; both follow what is seen.

    The features of a world model that still learns: their spread is small at first, and policy and
    value networks tell apart only what differs enough. Until `update`, values as they are.

    Args:
        size: Number of values n.
        gain: What values in standard deviations are multiplied by.
        kept: Share of mean and variance that stays at an update; less at the first ones, whose
            data then count alike.

    Attributes:
        mean: Means [n].
        var: Variances [n].
        updates: Updates so far [].
    """

    mean: Tensor
    var: Tensor
    updates: Tensor

    def __init__(self, size: int, gain: float, kept: float = 0.99) -> None:
        super().__init__()
        self.gain, self.kept = gain, kept
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("var", torch.ones(size))
        self.register_buffer("updates", torch.zeros((), dtype=torch.float64))  # Kept as it is.

    @torch.no_grad()
    def update(self, values: Tensor) -> None:
        """Takes in values [rows, n]."""
        self.updates += 1
        rate = (1 / self.updates).clamp(min=1 - self.kept).float()
        var, mean = torch.var_mean(values, dim=0, correction=0)
        self.mean.lerp_(mean, rate)
        self.var.lerp_(var, rate)

    def forward(self, values: Tensor) -> Tensor:
        """[..., n] -> [..., n]."""
        return (values - self.mean) * (self.gain * (self.var + VAR_FLOOR).rsqrt())


def by_parts(layers: nn.Module, images: Tensor) -> Tensor:
    """Images [N, C, H, W] through convolutions, on a CPU so many at a time as its caches hold."""
    if images.device.type != "cpu" or len(images) <= CACHED_IMAGES:
        result: Tensor = layers(images)
        return result
    return torch.cat([layers(part) for part in images.split(CACHED_IMAGES)])


def scale_images(images: Tensor) -> Tensor:
    """uint8 [.., H, W, 3] -> float [.., 3, H, W] in 0..1."""
    return images.movedim(-1, -3).to(torch.get_default_dtype()) / 255


def unit_normal(mean: Tensor) -> Normal:
    """A normal with unit variance around means [..., n]."""
    return Normal(mean, mean.new_ones(()).expand_as(mean))
