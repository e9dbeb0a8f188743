"""Networks: layers, encoders, decoders, heads, and linear layers inside a time loop.

Submodules are named as in AIME's published state dicts, so that these load as they are.
Shapes: T time, B batch, E embedding, F feature, A action, n size of a sensor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.distributions import Normal

MIN_STD = 1e-6  # Of policies, inverse dynamics and decoders.
LAYER_NORM_EPS = 1e-5
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
        hidden_dim: Width.
        hidden_layers: How many.
        activation: ``"elu"``, ``"relu"`` or ``"swish"``.
        layer_norm: Normalise before each activation.
    """

    hidden_dim: int = 128
    hidden_layers: int = 2
    activation: Activation = "elu"
    layer_norm: bool = False


class MLP(nn.Module):
    """Hidden layers and, given an output size, a linear head: [..., in] -> [..., out]."""

    def __init__(self, in_dim: int, out_dim: int | None, config: MLPConfig) -> None:
        super().__init__()
        self.config = config
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
        return outputs


class NormalHead(nn.Module):
    """Mean and standard deviation from two separate networks: a policy, or inverse dynamics.

    The normal is the one beneath a tanh: actions are tanh(mean + std * noise).
    """

    def __init__(self, in_dim: int, out_dim: int, config: MLPConfig) -> None:
        super().__init__()
        self.mean_net = MLP(in_dim, out_dim, config)
        self.std_net = MLP(in_dim, out_dim, config)

    def forward(self, inputs: Tensor) -> Normal:
        """[..., in] -> normal over [..., out]."""
        return Normal(self.mean_net(inputs), functional.softplus(self.std_net(inputs)) + MIN_STD)


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
        flat: Tensor = self.net(images.flatten(0, -4))
        return flat.reshape(*images.shape[:-3], self.embed_dim)


# Decoders: all give a Normal; a std without axes is one.


class MeanDecoder(nn.Module):
    """feature [..., F] -> Normal with unit variance [..., n]."""

    def __init__(self, in_dim: int, out_dim: int, config: MLPConfig) -> None:
        super().__init__()
        self.net = MLP(in_dim, out_dim, config)

    def forward(self, feature: Tensor) -> Normal:
        """[..., F] -> normal over [..., n]."""
        mean = self.net(feature)
        return Normal(mean, mean.new_ones(()))


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
        return Normal(mean, self.log_std.exp().expand_as(mean))


class ImageDecoder(nn.Module):
    """feature [..., F] -> images [..., 3, 64, 64] in 0..1, unit variance: 1-5-13-30-64."""

    def __init__(self, in_dim: int, width: int = 32) -> None:
        super().__init__()
        channels, kernels = [32 * width, 4 * width, 2 * width, width, 3], [5, 5, 6, 6]
        layers: list[nn.Module] = [nn.Linear(in_dim, channels[0]), nn.Unflatten(-1, (-1, 1, 1))]
        for before, after, kernel in zip(channels[:-1], channels[1:], kernels, strict=True):
            layers += [nn.ConvTranspose2d(before, after, kernel, stride=2), nn.ReLU()]
        self.net = nn.Sequential(*layers[:-1], nn.Sigmoid())

    def forward(self, feature: Tensor) -> Normal:
        """[..., F] -> normal over [..., 3, 64, 64]."""
        mean = self.net(feature.flatten(0, -2)).reshape(*feature.shape[:-1], 3, 64, 64)
        return Normal(mean, mean.new_ones(()))


# Linear layers inside a time loop


class _OneProduct(torch.autograd.Function):
    """Passes offsets through, and gives the weight its gradient over all steps in one product.

    dL/dW = sum_t dL/dy_t x_t^T needs nothing from the loop but the inputs x_t, so it waits until
    the loop is behind us: one large product in place of T small ones.
    """

    @staticmethod
    def forward(ctx: Any, offsets: Tensor, weight: Tensor, inputs: list[Tensor]) -> Tensor:
        ctx.inputs = inputs
        return offsets.view_as(offsets)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        grad = grads[0]
        inputs = torch.cat(ctx.inputs)  # [T B, in]
        return grad, grad.flatten(0, 1).T @ inputs, None


class LoopLinear:
    """x_t [B, in] -> W x_t + offset_t [B, out], called once for each t, in order.

    Args:
        weight: W [out, in].
        offsets: What is known before the loop [T, B, out]: the bias, and products with inputs that
            do not depend on the recurrence.
    """

    def __init__(self, weight: Tensor, offsets: Tensor) -> None:
        self._inputs: list[Tensor] | None = None
        if weight.requires_grad and torch.is_grad_enabled():
            self._inputs = []
            offsets = _OneProduct.apply(  # type: ignore[no-untyped-call]
                offsets, weight, self._inputs
            )
        self._weight = weight.detach().t()
        self._offsets = iter(offsets.unbind(0))

    def __call__(self, inputs: Tensor) -> Tensor:
        """x_t [B, in] -> [B, out]."""
        if self._inputs is not None:
            self._inputs.append(inputs.detach())
        return torch.addmm(next(self._offsets), inputs, self._weight)


def split_linear(
    weight: Tensor, bias: Tensor, steps: int, batch: int, known: Tensor | None = None
) -> LoopLinear:
    """A linear layer for T steps of B, whose last k inputs may be known before [T, B, k]."""
    if known is None:
        return LoopLinear(weight, bias.expand(steps, batch, -1))
    k = known.shape[-1]
    weight, known_weight = weight.split([weight.shape[1] - k, k], dim=1)
    return LoopLinear(weight, functional.linear(known, known_weight, bias))


class _Layer(NamedTuple):
    linear: LoopLinear
    norm: nn.LayerNorm | None
    activation: Callable[[Tensor], Tensor] | None


class LoopMLP:
    """One or more MLPs with the same input, side by side as one, inside a time loop.

    Two networks of width n become one of width 2 n with block-diagonal weights: half the calls.

    Args:
        nets: Of the same depth and width. With layer norm, one alone.
        steps: T, the number of calls to come.
        batch: B.
        known: Inputs which are known before the loop [T, B, k]; the networks' last k inputs.
    """

    def __init__(
        self, nets: Sequence[MLP], steps: int, batch: int, known: Tensor | None = None
    ) -> None:
        config = nets[0].config
        columns = [[m for m in net.net if isinstance(m, nn.Linear)] for net in nets]
        norms = [m for m in nets[0].net if isinstance(m, nn.LayerNorm)]
        assert len(nets) == 1 or not norms
        self._layers: list[_Layer] = []
        for depth, linears in enumerate(zip(*columns, strict=True)):
            biases = torch.cat([linear.bias for linear in linears])
            weights = [linear.weight for linear in linears]
            if depth == 0:
                linear = split_linear(torch.cat(weights), biases, steps, batch, known)
            else:
                linear = split_linear(_block_diagonal(weights), biases, steps, batch)
            hidden = depth < config.hidden_layers
            self._layers.append(
                _Layer(
                    linear,
                    norms[depth] if hidden and norms else None,
                    ACTIVATIONS[config.activation] if hidden else None,
                )
            )

    def __call__(self, inputs: Tensor) -> Tensor:
        """x_t [B, in] -> [B, out], of all networks side by side."""
        for linear, norm, activation in self._layers:
            inputs = linear(inputs)
            if norm is not None:
                inputs = norm(inputs)
            if activation is not None:
                inputs = activation(inputs)
        return inputs


class LoopNormalHead:
    """A `NormalHead` inside a time loop."""

    def __init__(
        self, head: NormalHead, steps: int, batch: int, known: Tensor | None = None
    ) -> None:
        self._mlp = LoopMLP([head.mean_net, head.std_net], steps, batch, known)

    def __call__(self, inputs: Tensor) -> Normal:
        """x_t [B, in] -> normal over [B, out]."""
        mean, std = self._mlp(inputs).chunk(2, dim=-1)
        return Normal(mean, functional.softplus(std) + MIN_STD)


def _block_diagonal(weights: Sequence[Tensor]) -> Tensor:
    return weights[0] if len(weights) == 1 else torch.block_diag(*weights)
