"""Recurrent state-space models: latent dynamics with a memory and a stochastic part.

    h_t = f(h_{t-1}, z_{t-1}, a_{t-1})    deterministic state, "deter"
    z_t ~ p(z_t | h_t)                    prior: imagine without looking
    z_t ~ q(z_t | h_t, e_t)               posterior: filter e_t, the embedding of o_t

Hafner et al. 2019, "Learning Latent Dynamics for Planning from Pixels", arXiv:1811.04551, Sec. 3,
in the two forms of AIME (Zhang et al. 2023): `RSSM` with separate networks for means and standard
deviations, and `RSSMO`, with layer norm and a layer before the memory.

Shapes: T time, B batch, A action, E embedding, D deter, S stoch. A cell makes an `Unrolled` for T
steps, which takes everything out of the time loop that the recurrence does not need; the loops
themselves are in `world_model.py`. Randomness is an argument: noise ~ N(0, 1).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.distributions import Normal
from agents.nets import MLP, LoopLinear, LoopMLP, MLPConfig, split_linear


class Latent(NamedTuple):
    """The state of a world model.

    Attributes:
        deter: All that is remembered from before t [..., D].
        stoch: What the memory leaves uncertain about t [..., S].
    """

    deter: Tensor
    stoch: Tensor

    @property
    def feature(self) -> Tensor:
        """The input of every head and policy [..., D + S]."""
        return torch.cat([self.deter, self.stoch], dim=-1)


class Unrolled(ABC):
    """A cell over T steps: `advance`, then `posterior` or `prior`, once for each t in order."""

    _gates_input: LoopLinear
    _gates_memory: LoopLinear
    _posterior_net: LoopMLP

    @abstractmethod
    def advance(self, prev: Latent, prev_action: Tensor | None = None) -> Tensor:
        """s_{t-1} and, unless all actions were given before, a_{t-1} [B, A] -> h_t [B, D]."""

    @abstractmethod
    def posterior(self, deter: Tensor) -> Normal:
        """h_t [B, D], with e_t given before -> q(z_t), [B, S]."""

    def observe(
        self, prev: Latent, noise: Tensor, prev_action: Tensor | None = None
    ) -> tuple[Latent, Normal]:
        """s_{t-1}, noise [B, S] -> s_t and the posterior over z_t.

        The loss needs the prior too, but the recurrence does not.
        """
        deter = self.advance(prev, prev_action)
        posterior = self.posterior(deter)
        return Latent(deter, posterior.sample(noise)), posterior

    def _remember(self, inputs: Tensor, deter: Tensor) -> Tensor:
        """The gated recurrent unit: inputs [B, ..], h_{t-1} -> h_t [B, D]."""
        size = deter.shape[-1]
        gates_input, gates_memory = self._gates_input(inputs), self._gates_memory(deter)
        reset, update = torch.sigmoid(
            gates_input[:, : 2 * size] + gates_memory[:, : 2 * size]
        ).chunk(2, dim=-1)
        candidate = torch.tanh(
            torch.addcmul(gates_input[:, 2 * size :], reset, gates_memory[:, 2 * size :])
        )
        return torch.lerp(candidate, deter, update)


class Cell(nn.Module, ABC):
    """One step of a recurrent state-space model.

    Attributes:
        deter_dim: D.
        stoch_dim: S.
    """

    initial_memory: Tensor
    initial_state: Tensor
    memory_cell: nn.GRUCell

    def __init__(self, deter_dim: int, stoch_dim: int) -> None:
        super().__init__()
        self.deter_dim, self.stoch_dim = deter_dim, stoch_dim
        self.register_buffer("initial_memory", torch.zeros(1, deter_dim))
        self.register_buffer("initial_state", torch.zeros(1, stoch_dim))

    def initial(self, batch: int) -> Latent:
        """The zero state for B sequences."""
        return Latent(self.initial_memory.expand(batch, -1), self.initial_state.expand(batch, -1))

    @abstractmethod
    def prior(self, deter: Tensor) -> Normal:
        """h_t [..., D] -> p(z_t), [..., S]; all t at once."""

    @abstractmethod
    def unroll(
        self, steps: int, batch: int, embeds: Tensor | None, prev_actions: Tensor | None
    ) -> Unrolled:
        """Prepares T steps.

        Args:
            steps: T.
            batch: B.
            embeds: e_t [T, B, E]; None to imagine.
            prev_actions: a_{t-1} [T, B, A]; None where each comes in the loop.
        """


class RSSM(Cell):
    """The cell of AIME's walker models: ELU, separate networks for mean and std."""

    def __init__(
        self,
        action_dim: int,
        embed_dim: int,
        deter_dim: int = 512,
        stoch_dim: int = 128,
        hidden: MLPConfig | None = None,
        min_std: float = 1e-6,
    ) -> None:
        super().__init__(deter_dim, stoch_dim)
        hidden = hidden or MLPConfig()
        self.min_std = min_std
        self.memory_cell = nn.GRUCell(stoch_dim + action_dim, deter_dim)
        self.prior_mean = MLP(deter_dim, stoch_dim, hidden)
        self.prior_std = MLP(deter_dim, stoch_dim, hidden)
        self.posterior_mean = MLP(deter_dim + embed_dim, stoch_dim, hidden)
        self.posterior_std = MLP(deter_dim + embed_dim, stoch_dim, hidden)

    def prior(self, deter: Tensor) -> Normal:
        """h_t [..., D] -> p(z_t), [..., S]."""
        std = functional.softplus(self.prior_std(deter)) + self.min_std
        return Normal(self.prior_mean(deter), std)

    def unroll(
        self, steps: int, batch: int, embeds: Tensor | None, prev_actions: Tensor | None
    ) -> UnrolledRSSM:
        """Prepares T steps."""
        return UnrolledRSSM(self, steps, batch, embeds, prev_actions)


class UnrolledRSSM(Unrolled):
    """T steps of an `RSSM`."""

    def __init__(
        self,
        cell: RSSM,
        steps: int,
        batch: int,
        embeds: Tensor | None,
        prev_actions: Tensor | None,
    ) -> None:
        memory = cell.memory_cell
        self._min_std = cell.min_std
        self._gates_input = split_linear(
            memory.weight_ih, memory.bias_ih, steps, batch, prev_actions
        )
        self._gates_memory = split_linear(memory.weight_hh, memory.bias_hh, steps, batch)
        if embeds is not None:
            nets = [cell.posterior_mean, cell.posterior_std]
            self._posterior_net = LoopMLP(nets, steps, batch, embeds)

    def advance(self, prev: Latent, prev_action: Tensor | None = None) -> Tensor:
        """s_{t-1}, a_{t-1} -> h_t [B, D]."""
        return self._remember(_with_action(prev.stoch, prev_action), prev.deter)

    def posterior(self, deter: Tensor) -> Normal:
        """h_t -> q(z_t), [B, S]."""
        mean, std = self._posterior_net(deter).chunk(2, dim=-1)
        return Normal(mean, functional.softplus(std) + self._min_std)


class RSSMO(Cell):
    """The cell of AIME's cheetah models: layer norm, swish, a layer before the memory."""

    def __init__(
        self,
        action_dim: int,
        embed_dim: int,
        deter_dim: int = 512,
        stoch_dim: int = 30,
        hidden: MLPConfig | None = None,
        min_std: float = 0.1,
    ) -> None:
        super().__init__(deter_dim, stoch_dim)
        hidden = hidden or MLPConfig(512, 1, "swish", layer_norm=True)
        self.min_std = min_std
        self.pre_memory = MLP(stoch_dim + action_dim, None, hidden)
        self.memory_cell = nn.GRUCell(hidden.hidden_dim, deter_dim)
        self.prior_net = MLP(deter_dim, 2 * stoch_dim, hidden)
        self.posterior_net = MLP(deter_dim + embed_dim, 2 * stoch_dim, hidden)

    def prior(self, deter: Tensor) -> Normal:
        """h_t [..., D] -> p(z_t), [..., S]."""
        return _sigmoid_normal(self.prior_net(deter), self.min_std)

    def unroll(
        self, steps: int, batch: int, embeds: Tensor | None, prev_actions: Tensor | None
    ) -> UnrolledRSSMO:
        """Prepares T steps."""
        return UnrolledRSSMO(self, steps, batch, embeds, prev_actions)


class UnrolledRSSMO(Unrolled):
    """T steps of an `RSSMO`."""

    def __init__(
        self,
        cell: RSSMO,
        steps: int,
        batch: int,
        embeds: Tensor | None,
        prev_actions: Tensor | None,
    ) -> None:
        memory = cell.memory_cell
        self._min_std = cell.min_std
        self._pre_memory = LoopMLP([cell.pre_memory], steps, batch, prev_actions)
        self._gates_input = split_linear(memory.weight_ih, memory.bias_ih, steps, batch)
        self._gates_memory = split_linear(memory.weight_hh, memory.bias_hh, steps, batch)
        if embeds is not None:
            self._posterior_net = LoopMLP([cell.posterior_net], steps, batch, embeds)

    def advance(self, prev: Latent, prev_action: Tensor | None = None) -> Tensor:
        """s_{t-1}, a_{t-1} -> h_t [B, D]."""
        inputs = self._pre_memory(_with_action(prev.stoch, prev_action))
        return self._remember(inputs, prev.deter)

    def posterior(self, deter: Tensor) -> Normal:
        """h_t -> q(z_t), [B, S]."""
        return _sigmoid_normal(self._posterior_net(deter), self._min_std)


def _with_action(stoch: Tensor, prev_action: Tensor | None) -> Tensor:
    return stoch if prev_action is None else torch.cat([stoch, prev_action], dim=-1)


def _sigmoid_normal(params: Tensor, min_std: float) -> Normal:
    """Means and raw stds [..., 2 S] -> a normal whose stds lie between min_std and min_std + 2."""
    mean, raw = params.chunk(2, dim=-1)
    return Normal(mean, 2 * torch.sigmoid(raw / 2) + min_std)
