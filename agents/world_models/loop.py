"""A recurrent state-space model over T steps: everything that can be is taken out of the time loop.

What the recurrence does not need is computed before the loop in products over all steps (embeddings
and known actions through the first layers), or after it (the gradients of the weights); two
networks side by side become one. The results are those of the cell's own step, see `rssm`, which
says what is computed here; a test holds the two equal.

Shapes: T time, B batch, A action, E embedding, D deter, S stoch, F feature.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.distributions import Normal
from agents.fused import fused
from agents.nets import ACTIVATIONS, MIN_STD, MLP, NormalHead
from agents.world_models.rssm import Cell, Latent


class CellLoop:
    """A cell over T steps: `observe` or `imagine`, once for each t in order.

    Args:
        cell: The cell.
        steps: T, the number of calls to come.
        batch: B.
        embeds: Embeddings e_t [T, B, E]; None to imagine.
        prev_actions: Actions a_{t-1} [T, B, A]; None where each comes in the loop.
    """

    def __init__(
        self,
        cell: Cell,
        steps: int,
        batch: int,
        embeds: Tensor | None = None,
        prev_actions: Tensor | None = None,
    ) -> None:
        memory, pre_memory = cell.memory_cell, cell.pre_memory
        self._cell = cell
        self._pre_memory: LoopMLP | None = None
        if pre_memory is not None:
            self._pre_memory = LoopMLP([pre_memory], steps, batch, prev_actions)
            prev_actions = None
        self._gates_input = split_linear(
            memory.weight_ih, memory.bias_ih, steps, batch, prev_actions
        )
        self._gates_memory = split_linear(memory.weight_hh, memory.bias_hh, steps, batch)
        if embeds is not None:
            self._posterior = LoopMLP(cell.posterior_nets, steps, batch, embeds)

    def observe(
        self, prev: Latent, noise: Tensor, prev_action: Tensor | None = None
    ) -> tuple[Latent, Normal]:
        """s_{t-1}, noise [B, S], and a_{t-1} [B, A] unless all are known -> s_t, q(z_t)."""
        deter = self._advance(prev, prev_action)
        posterior = self._cell.to_normal(self._posterior(deter))
        return Latent(deter, posterior.sample(noise)), posterior

    def imagine(self, prev: Latent, noise: Tensor, prev_action: Tensor | None = None) -> Latent:
        """s_{t-1}, noise [B, S], and a_{t-1} [B, A] unless all are known -> s_t."""
        deter = self._advance(prev, prev_action)
        return Latent(deter, self._cell.prior(deter).sample(noise))

    def _advance(self, prev: Latent, prev_action: Tensor | None) -> Tensor:
        """Through the gated recurrent unit: s_{t-1}, a_{t-1} -> h_t [B, D]."""
        inputs = prev.stoch
        if prev_action is not None:
            inputs = torch.cat([inputs, prev_action], dim=-1)
        if self._pre_memory is not None:
            inputs = self._pre_memory(inputs)
        memory = self._cell.memory(prev.deter)
        gates_input, gates_memory = self._gates_input(inputs), self._gates_memory(memory)
        return self._cell.join(gated(gates_input, gates_memory, memory), prev.stoch)


@fused
def gated(gates_input: Tensor, gates_memory: Tensor, memory: Tensor) -> Tensor:
    """A gated recurrent unit's products with inputs and memory [B, 3 D] -> its memory [B, D]."""
    size = memory.shape[-1]
    reset, update = torch.sigmoid(gates_input[:, : 2 * size] + gates_memory[:, : 2 * size]).chunk(
        2, dim=-1
    )
    candidate = torch.tanh(
        torch.addcmul(gates_input[:, 2 * size :], reset, gates_memory[:, 2 * size :])
    )
    return torch.lerp(candidate, memory, update)


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
        inputs = torch.cat(ctx.inputs, dim=-2)  # [.., T B, in]
        rows = grad.movedim(0, -3).flatten(-3, -2)  # [.., T B, out]
        return grad, rows.mT @ inputs, None


class LoopLinear:
    """x_t [.., B, in] -> W x_t + offset_t [.., B, out], called once for each t, in order.

    Args:
        weight: W [out, in], or one for each of P batches [P, out, in].
        offsets: What is known before the loop [T, .., B, out]: the bias, and products with inputs
            that do not depend on the recurrence.
    """

    def __init__(self, weight: Tensor, offsets: Tensor) -> None:
        self._inputs: list[Tensor] | None = None
        if weight.requires_grad and torch.is_grad_enabled():
            self._inputs = []
            offsets = _OneProduct.apply(  # type: ignore[no-untyped-call]
                offsets, weight, self._inputs
            )
        self._weight = weight.detach().mT
        self._offsets = iter(offsets.unbind(0))
        self._product = torch.addmm if weight.ndim == 2 else torch.baddbmm

    def __call__(self, inputs: Tensor) -> Tensor:
        """x_t [.., B, in] -> [.., B, out]."""
        if self._inputs is not None:
            self._inputs.append(inputs.detach())
        return self._product(next(self._offsets), inputs, self._weight)


def split_linear(
    weight: Tensor, bias: Tensor, steps: int, batch: int, known: Tensor | None = None
) -> LoopLinear:
    """A linear layer for T steps of B, whose last k inputs may be known before [T, .., B, k].

    Weight [out, in] and bias [out] may have an axis P in front: a layer for each of P batches.
    """
    offset = bias.unsqueeze(-2)
    if known is None:
        return LoopLinear(weight, offset.expand(steps, *offset.shape[:-2], batch, -1))
    k = known.shape[-1]
    weight, known_weight = weight.split([weight.shape[-1] - k, k], dim=-1)
    if weight.ndim == 2:
        return LoopLinear(weight, functional.linear(known, known_weight, bias))
    return LoopLinear(weight, torch.einsum("tpbk,pok->tpbo", known, known_weight) + offset)


class _Layer(NamedTuple):
    linear: LoopLinear
    norm: Callable[[Tensor], Tensor] | None
    activation: Callable[[Tensor], Tensor] | None


class LoopMLP:
    """One or more MLPs with the same input, side by side as one, inside a time loop.

    Two networks of width n become one of width 2 n with block-diagonal weights: half the calls.

    Args:
        nets: Of the same depth and width. In place of each there may be P of them, each for a batch
            of its own: then an axis P stands before every B.
        steps: T, the number of calls to come.
        batch: B.
        known: Inputs which are known before the loop [T, .., B, k]; the networks' last k inputs.
    """

    def __init__(
        self,
        nets: Sequence[MLP | Sequence[MLP]],
        steps: int,
        batch: int,
        known: Tensor | None = None,
    ) -> None:
        stacks = [_Stack(net) for net in nets]
        config = stacks[0].config
        norms = [_beside(parts) for parts in zip(*(stack.norms for stack in stacks), strict=True)]
        self._skip: LoopLinear | None = None
        if stacks[0].skips:
            weight = torch.cat([skip for stack in stacks for skip in stack.skips], dim=-2)
            self._skip = split_linear(
                weight, weight.new_zeros(weight.shape[:-1]), steps, batch, known
            )
        self._layers: list[_Layer] = []
        for depth, linears in enumerate(zip(*(stack.linears for stack in stacks), strict=True)):
            weights, biases = zip(*linears, strict=True)
            bias = torch.cat(biases, dim=-1)
            if depth == 0:
                linear = split_linear(torch.cat(weights, dim=-2), bias, steps, batch, known)
            else:
                linear = split_linear(_block_diagonal(weights), bias, steps, batch)
            hidden = depth < config.hidden_layers
            self._layers.append(
                _Layer(
                    linear,
                    norms[depth] if hidden and norms else None,
                    ACTIVATIONS[config.activation] if hidden else None,
                )
            )

    def __call__(self, inputs: Tensor) -> Tensor:
        """x_t [.., B, in] -> [.., B, out], of all networks side by side."""
        outputs = inputs
        for linear, norm, activation in self._layers:
            outputs = linear(outputs)
            if norm is not None:
                outputs = norm(outputs)
            if activation is not None:
                outputs = activation(outputs)
        return outputs if self._skip is None else outputs + self._skip(inputs)


class LoopNormalHead:
    """A `NormalHead` inside a time loop, or P of them, each for a batch of its own."""

    def __init__(
        self,
        head: NormalHead | Sequence[NormalHead],
        steps: int,
        batch: int,
        known: Tensor | None = None,
    ) -> None:
        nets: list[MLP | Sequence[MLP]]
        if isinstance(head, NormalHead):
            nets = [head.mean_net, head.std_net]
        else:
            nets = [[one.mean_net for one in head], [one.std_net for one in head]]
        self._mlp = LoopMLP(nets, steps, batch, known)

    def __call__(self, inputs: Tensor) -> Normal:
        """x_t [.., B, in] -> normal over [.., B, out]."""
        mean, std = self._mlp(inputs).chunk(2, dim=-1)
        return Normal(mean, functional.softplus(std) + MIN_STD)


class _Stack:
    """The weights of an MLP, or of P of one shape, which have an axis P in front.

    Attributes:
        linears: Weight [.., out, in] and bias [.., out] of every layer.
        norms: What normalises [.., B, out] behind every hidden layer; empty without.
        skips: The weight beside the layers [.., out, in], if there is one.
    """

    def __init__(self, net: MLP | Sequence[MLP]) -> None:
        alone = isinstance(net, MLP)
        nets = [net] if isinstance(net, MLP) else net
        join = _only if alone else torch.stack
        layers = [*zip(*(one.net for one in nets), strict=True)]
        self.config = nets[0].config
        self.linears = [
            (join([m.weight for m in members]), join([m.bias for m in members]))
            for members in layers
            if isinstance(members[0], nn.Linear)
        ]
        norms = [members for members in layers if isinstance(members[0], nn.LayerNorm)]
        self.norms: list[Callable[[Tensor], Tensor]] = [
            members[0] if alone else _stacked_norm(members) for members in norms
        ]
        skips = [one.skip.weight for one in nets if one.skip is not None]
        self.skips = [join(skips)] if skips else []


def _only(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0]


def _stacked_norm(norms: Sequence[nn.LayerNorm]) -> Callable[[Tensor], Tensor]:
    """P layer norms on [P, B, n]."""
    weight, bias = (
        torch.stack([getattr(norm, name) for norm in norms])[:, None] for name in ("weight", "bias")
    )
    shape, eps = norms[0].normalized_shape, norms[0].eps
    return lambda values: torch.addcmul(bias, functional.layer_norm(values, shape, eps=eps), weight)


def _beside(norms: Sequence[Callable[[Tensor], Tensor]]) -> Callable[[Tensor], Tensor]:
    """Layer norms of networks side by side [.., B, n] as one."""
    if len(norms) == 1:
        return norms[0]

    def normalize(values: Tensor) -> Tensor:
        parts = values.chunk(len(norms), dim=-1)
        return torch.cat([norm(part) for norm, part in zip(norms, parts, strict=True)], dim=-1)

    return normalize


def _block_diagonal(weights: Sequence[Tensor]) -> Tensor:
    """Weights [.., out, in] of networks side by side as one."""
    if len(weights) == 1:
        return weights[0]
    if weights[0].ndim == 2:
        joined: Tensor = torch.block_diag(*weights)
        return joined
    return torch.stack([_block_diagonal(parts) for parts in zip(*weights, strict=True)])
