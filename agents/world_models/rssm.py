"""Recurrent state-space models: latent dynamics with a memory and a stochastic part.

    h_t = f(h_{t-1}, z_{t-1}, a_{t-1})    deterministic state, "deter"
    z_t ~ p(z_t | h_t)                    prior: imagine without looking
    z_t ~ q(z_t | h_t, e_t)               posterior: filter e_t, the embedding of o_t

Hafner et al. 2019, "Learning Latent Dynamics for Planning from Pixels", arXiv:1811.04551, Sec. 3,
in the two forms of AIME (Zhang et al. 2023): `RSSM` with separate networks for means and standard
deviations, and `RSSMO`, with layer norm and a layer before the memory; and in one that learns
sooner, `ResidualRSSM`.

This is one step, to read and to act with; `loop` has the same over many steps, fast.
Shapes: B batch, A action, E embedding, D deter, S stoch. Randomness is an argument: every sample is
mean + std * noise with noise ~ N(0, 1).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.distributions import Normal
from agents.nets import MLP, MLPConfig


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


class Cell(nn.Module, ABC):
    """One step of a recurrent state-space model.

    Attributes:
        pre_memory: The layer between (z_{t-1}, a_{t-1}) and the memory; None for none.
        memory_cell: The gated recurrent unit behind h_t.
    """

    initial_memory: Tensor
    initial_state: Tensor
    pre_memory: MLP | None
    memory_cell: nn.GRUCell

    def __init__(self, deter_dim: int, stoch_dim: int) -> None:
        super().__init__()
        self.register_buffer("initial_memory", torch.zeros(1, deter_dim))
        self.register_buffer("initial_state", torch.zeros(1, stoch_dim))

    @property
    def feature_dim(self) -> int:
        """Size of `Latent.feature`."""
        return self.initial_memory.shape[-1] + self.initial_state.shape[-1]

    @property
    @abstractmethod
    def prior_nets(self) -> list[MLP]:
        """Networks on h_t; their outputs, joined, are the parameters of the prior."""

    @property
    @abstractmethod
    def posterior_nets(self) -> list[MLP]:
        """Networks on [h_t, e_t]; their outputs, joined, are the parameters of the posterior."""

    @abstractmethod
    def to_normal(self, params: Tensor) -> Normal:
        """Parameters [..., 2 S], means first -> a normal over z_t, [..., S]."""

    def initial(self, batch: int) -> Latent:
        """The zero state for B sequences."""
        return Latent(self.initial_memory.expand(batch, -1), self.initial_state.expand(batch, -1))

    def advance(self, prev: Latent, prev_action: Tensor) -> Tensor:
        """s_{t-1}, a_{t-1} [B, A] -> h_t [B, D]."""
        inputs = torch.cat([prev.stoch, prev_action], dim=-1)
        if self.pre_memory is not None:
            inputs = self.pre_memory(inputs)
        return self.join(self.memory_cell(inputs, self.memory(prev.deter)), prev.stoch)

    def memory(self, deter: Tensor) -> Tensor:
        """h_t [B, D] -> what the gated recurrent unit remembers of it."""
        return deter

    def join(self, memory: Tensor, prev_stoch: Tensor) -> Tensor:
        """What the gated recurrent unit gives, and z_{t-1} [B, S] -> h_t [B, D]."""
        return memory

    def prior(self, deter: Tensor) -> Normal:
        """h_t [..., D] -> p(z_t), [..., S]; any leading axes."""
        return self.to_normal(torch.cat([net(deter) for net in self.prior_nets], dim=-1))

    def posterior(self, deter: Tensor, embed: Tensor) -> Normal:
        """h_t [..., D], e_t [..., E] -> q(z_t), [..., S]; any leading axes."""
        inputs = torch.cat([deter, embed], dim=-1)
        return self.to_normal(torch.cat([net(inputs) for net in self.posterior_nets], dim=-1))

    def posterior_means(self, deter: Tensor, embed: Tensor) -> Tensor:
        """h_t [..., D], e_t [..., E] -> the means of q(z_t) alone [..., S]."""
        return self.posterior(deter, embed).mean

    def observe_means(self, prev: Latent, prev_action: Tensor, embed: Tensor) -> Latent:
        """s_{t-1}, a_{t-1} [B, A], e_t [B, E] -> s_t with the mean of the posterior for z_t."""
        deter = self.advance(prev, prev_action)
        return Latent(deter, self.posterior_means(deter, embed))

    def observe(
        self, prev: Latent, prev_action: Tensor, embed: Tensor, noise: Tensor
    ) -> tuple[Latent, Normal]:
        """s_{t-1}, a_{t-1} [B, A], e_t [B, E], noise [B, S] -> s_t and the posterior over z_t.

        The loss needs the prior too, but the recurrence does not: `prior` gives it for all t.
        """
        deter = self.advance(prev, prev_action)
        posterior = self.posterior(deter, embed)
        return Latent(deter, posterior.sample(noise)), posterior

    def imagine(self, prev: Latent, prev_action: Tensor, noise: Tensor) -> Latent:
        """s_{t-1}, a_{t-1} [B, A], noise [B, S] -> s_t with z_t from the prior."""
        deter = self.advance(prev, prev_action)
        return Latent(deter, self.prior(deter).sample(noise))


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
        self.pre_memory = None
        self.memory_cell = nn.GRUCell(stoch_dim + action_dim, deter_dim)
        self.prior_mean = MLP(deter_dim, stoch_dim, hidden)
        self.prior_std = MLP(deter_dim, stoch_dim, hidden)
        self.posterior_mean = MLP(deter_dim + embed_dim, stoch_dim, hidden)
        self.posterior_std = MLP(deter_dim + embed_dim, stoch_dim, hidden)

    @property
    def prior_nets(self) -> list[MLP]:
        """Two networks: means, and what gives the standard deviations."""
        return [self.prior_mean, self.prior_std]

    @property
    def posterior_nets(self) -> list[MLP]:
        """Two networks: means, and what gives the standard deviations."""
        return [self.posterior_mean, self.posterior_std]

    def posterior_means(self, deter: Tensor, embed: Tensor) -> Tensor:
        """Without the network of standard deviations."""
        means: Tensor = self.posterior_mean(torch.cat([deter, embed], dim=-1))
        return means

    def to_normal(self, params: Tensor) -> Normal:
        """Standard deviations are softplus(raw) + min_std."""
        return softplus_normal(params, self.min_std)


class JoinedCell(Cell):
    """A cell with a layer before the memory, and one network each for prior and posterior.

    Args:
        action_dim: A.
        embed_dim: E.
        memory_dim: Size of what the gated recurrent unit remembers.
        deter_dim: D, the memory and what stands beside it.
        stoch_dim: S.
        hidden: The networks' hidden layers.
        min_std: Floor of the standard deviations.
    """

    def __init__(
        self,
        action_dim: int,
        embed_dim: int,
        memory_dim: int,
        deter_dim: int,
        stoch_dim: int,
        hidden: MLPConfig,
        min_std: float,
    ) -> None:
        super().__init__(deter_dim, stoch_dim)
        self.min_std = min_std
        self.pre_memory = MLP(stoch_dim + action_dim, None, hidden)
        self.memory_cell = nn.GRUCell(hidden.hidden_dim, memory_dim)
        self.prior_net = MLP(deter_dim, 2 * stoch_dim, hidden)
        self.posterior_net = MLP(deter_dim + embed_dim, 2 * stoch_dim, hidden)

    @property
    def prior_nets(self) -> list[MLP]:
        """One network, for means and standard deviations alike."""
        return [self.prior_net]

    @property
    def posterior_nets(self) -> list[MLP]:
        """One network, for means and standard deviations alike."""
        return [self.posterior_net]


class RSSMO(JoinedCell):
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
        hidden = hidden or MLPConfig(512, 1, "swish", layer_norm=True)
        super().__init__(action_dim, embed_dim, deter_dim, deter_dim, stoch_dim, hidden, min_std)

    def to_normal(self, params: Tensor) -> Normal:
        """Standard deviations are 2 sigmoid(raw / 2) + min_std, between min_std and min_std + 2."""
        mean, raw = params.chunk(2, dim=-1)
        return Normal(mean, 2 * torch.sigmoid(raw / 2) + self.min_std)


class ResidualRSSM(JoinedCell):
    """A cell for precise physics: what a step changes is learnt, not what it keeps.

    h_t holds z_{t-1} as it is, beside what is remembered of before, and linear maps run beside the
    networks of prior and posterior. So a state that hardly changes need not be copied through the
    saturating gates of the memory.
    """

    def __init__(
        self,
        action_dim: int,
        embed_dim: int,
        memory_dim: int = 256,
        stoch_dim: int = 64,
        hidden: MLPConfig | None = None,
        min_std: float = 1e-6,
    ) -> None:
        hidden = hidden or MLPConfig(256, 1, "swish", layer_norm=True, skip=True)
        deter_dim = memory_dim + stoch_dim
        super().__init__(action_dim, embed_dim, memory_dim, deter_dim, stoch_dim, hidden, min_std)

    def memory(self, deter: Tensor) -> Tensor:
        """h_t [B, D] -> its part of the gated recurrent unit."""
        return deter[..., : self.memory_cell.hidden_size]

    def join(self, memory: Tensor, prev_stoch: Tensor) -> Tensor:
        """What the gated recurrent unit gives, and z_{t-1} [B, S] -> h_t [B, D]."""
        return torch.cat([memory, prev_stoch], dim=-1)

    def to_normal(self, params: Tensor) -> Normal:
        """Standard deviations are softplus(raw) + min_std."""
        return softplus_normal(params, self.min_std)


def softplus_normal(params: Tensor, min_std: float) -> Normal:
    """Parameters [..., 2 S], means first -> a normal with std softplus(raw) + min_std, [..., S]."""
    mean, raw = params.chunk(2, dim=-1)
    return Normal(mean, functional.softplus(raw) + min_std)
