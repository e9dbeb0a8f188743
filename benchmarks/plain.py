"""AIME's two updates as its mathematics reads, with nothing done for speed: what ours are timed by.

Every network is called inside the time loop, embeddings are computed anew in every update, and Adam
is not fused. A test holds weights after some updates equal to ours.

Zhang et al. 2023 (AIME), the published sizes and losses: RSSM and RSSMO, vectors or images. Shapes:
T time, B batch, n size of a sensor; networks are named as in the published weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from agents import WorldModelConfig
from agents.nets import MLPConfig

MIN_STD = 1e-6
Normal = tuple[Tensor, Tensor]
"""Mean and standard deviation."""


class Net(nn.Module):
    """Hidden layers and, where there is an output size, a linear head."""

    def __init__(self, inputs: int, outputs: int | None, config: MLPConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(config.hidden_layers):
            layers.append(nn.Linear(inputs, config.hidden_dim))
            if config.layer_norm:
                layers.append(nn.LayerNorm(config.hidden_dim))
            layers.append(nn.SiLU() if config.activation == "swish" else nn.ELU())
            inputs = config.hidden_dim
        self.net = nn.Sequential(*layers, *([nn.Linear(inputs, outputs)] if outputs else []))

    def forward(self, values: Tensor) -> Tensor:
        """[B, inputs] -> [B, outputs]."""
        return self.net(values)


class Mean(nn.Module):
    """A decoder with unit variance."""

    def __init__(self, inputs: int, outputs: int, config: MLPConfig) -> None:
        super().__init__()
        self.net = Net(inputs, outputs, config)

    def forward(self, values: Tensor) -> Normal:
        """[B, inputs] -> normal over [B, outputs]."""
        mean = self.net(values)
        return mean, torch.ones_like(mean)


class MeanStd(nn.Module):
    """A decoder, a policy or inverse dynamics: two networks."""

    def __init__(self, inputs: int, outputs: int, config: MLPConfig, name: str) -> None:
        super().__init__()
        self.mean_name = name
        self.add_module(name, Net(inputs, outputs, config))
        self.std_net = Net(inputs, outputs, config)

    def forward(self, values: Tensor) -> Normal:
        """[B, inputs] -> normal over [B, outputs]."""
        mean = self.get_submodule(self.mean_name)(values)
        return mean, functional.softplus(self.std_net(values)) + MIN_STD


class Encoder(nn.Module):
    """Images to embeddings."""

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes, layers = [3, width, 2 * width, 4 * width, 8 * width], list[nn.Module]()
        for before, after in pairwise(sizes):
            layers += [nn.Conv2d(before, after, 4, stride=2), nn.ReLU()]
        self.net = nn.Sequential(*layers[:-1])

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, 64, 64] -> [B, 32 width]."""
        return self.net(images).flatten(1)


class Decoder(nn.Module):
    """Features to images."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        sizes, layers = [32 * width, 4 * width, 2 * width, width, 3], list[nn.Module]()
        for before, after, kernel in zip(sizes, sizes[1:], (5, 5, 6, 6), strict=False):
            layers += [nn.ConvTranspose2d(before, after, kernel, stride=2), nn.ReLU()]
        head = [nn.Linear(inputs, sizes[0]), nn.Unflatten(1, (-1, 1, 1))]
        self.net = nn.Sequential(*head, *layers[:-1], nn.Sigmoid())

    def forward(self, values: Tensor) -> Normal:
        """[B, inputs] -> normal over [B, 3, 64, 64]."""
        mean = self.net(values)
        return mean, torch.ones_like(mean)


class Cell(nn.Module):
    """RSSM or RSSMO."""

    def __init__(self, actions: int, embed: int, config: WorldModelConfig) -> None:
        super().__init__()
        self.config, deter, stoch = config, config.deter_dim, config.stoch_dim
        self.register_buffer("initial_memory", torch.zeros(1, deter))
        self.register_buffer("initial_state", torch.zeros(1, stoch))
        if config.cell == "rssm":
            hidden = MLPConfig(config.hidden_dim)
            self.memory_cell = nn.GRUCell(stoch + actions, deter)
            for name, inputs in (("prior", deter), ("posterior", deter + embed)):
                self.add_module(f"{name}_mean", Net(inputs, stoch, hidden))
                self.add_module(f"{name}_std", Net(inputs, stoch, hidden))
        else:
            hidden = MLPConfig(config.hidden_dim, 1, "swish", layer_norm=True)
            self.pre_memory = Net(stoch + actions, None, hidden)
            self.memory_cell = nn.GRUCell(config.hidden_dim, deter)
            self.prior_net = Net(deter, 2 * stoch, hidden)
            self.posterior_net = Net(deter + embed, 2 * stoch, hidden)

    def normal(self, name: str, inputs: Tensor) -> Normal:
        """Prior or posterior."""
        if self.config.cell == "rssm":
            mean, raw = (self.get_submodule(f"{name}_{part}")(inputs) for part in ("mean", "std"))
            return mean, functional.softplus(raw) + self.config.min_std
        mean, raw = self.get_submodule(f"{name}_net")(inputs).chunk(2, dim=-1)
        return mean, 2 * torch.sigmoid(raw / 2) + self.config.min_std

    def forward(
        self, memory: Tensor, state: Tensor, action: Tensor, embed: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor, Normal, Normal]:
        """One step: memory and state [B, ..], prior and posterior."""
        inputs = torch.cat([state, action], dim=-1)
        if self.config.cell == "rssmo":
            inputs = self.pre_memory(inputs)
        memory = self.memory_cell(inputs, memory)
        prior = self.normal("prior", memory)
        posterior = self.normal("posterior", torch.cat([memory, embed], dim=-1))
        return memory, posterior[0] + posterior[1] * noise, prior, posterior


class PlainModel(nn.Module):
    """A world model.

    Args:
        visible: Vector sensors that are seen -> sizes; none where images are.
        hidden: Sensors that probes read -> sizes.
        actions: Size of an action.
        config: `WorldModelConfig.paper`, or a narrow one of its kind.
    """

    def __init__(
        self,
        visible: Mapping[str, int],
        hidden: Mapping[str, int],
        actions: int,
        config: WorldModelConfig,
    ) -> None:
        super().__init__()
        self.config, self.sensors = config, list(visible)
        self.encoders = nn.ModuleDict()
        embed = sum(visible.values())
        if not visible:
            self.encoders["image"], embed = Encoder(config.image_width), 32 * config.image_width
        elif config.cell == "rssmo":
            self.encoders["tabular"] = Net(embed, None, config.encoder)
            embed = config.encoder.hidden_dim
        self.cell = Cell(actions, embed, config)
        feature = config.deter_dim + config.stoch_dim
        self.decoders = nn.ModuleDict(
            {
                name: MeanStd(feature, size, config.decoder, "mu_net")
                if config.decoder_kind == "mean_std"
                else Mean(feature, size, config.decoder)
                for name, size in visible.items()
            }
        )
        if not visible:
            self.decoders["image"] = Decoder(feature, config.image_width)
        self.probes = nn.ModuleDict(
            {name: Mean(feature, size, config.probe) for name, size in hidden.items()}
        )
        self.idm = MeanStd(feature + embed, actions, MLPConfig(config.hidden_dim), "mean_net")

    def embed(self, row: Mapping[str, Tensor]) -> Tensor:
        """What is seen at one time, to [B, E]."""
        if not self.sensors:
            return self.encoders["image"](row["image"])
        vector = torch.cat([row[name] for name in self.sensors], dim=-1)
        return self.encoders["tabular"](vector) if "tabular" in self.encoders else vector

    def start(self, batch: int) -> tuple[Tensor, Tensor]:
        """The zero state."""
        return self.cell.initial_memory.expand(batch, -1), self.cell.initial_state.expand(batch, -1)

    def terms(
        self, feature: Tensor, row: Mapping[str, Tensor], prior: Normal, posterior: Normal
    ) -> tuple[Tensor, Tensor]:
        """Weighted negative log-likelihood, and weight of the KL [B], at one time."""
        likelihood, stds = torch.zeros(()), []
        for name, decoder in self.decoders.items():
            mean, std = decoder(feature)
            log_prob = log_density(row[name], (mean, std))
            weight = std.detach() if self.config.reweighting == "dim_wise" else 1.0
            likelihood = likelihood - (log_prob * weight).sum() / len(feature)
            stds.append(std.detach().flatten(1))
        weight = torch.ones(len(feature))
        if self.config.reweighting == "dim_wise":
            weight = torch.cat(stds, dim=-1).mean(dim=-1)
        return likelihood, weight

    def loss(
        self, observations: Mapping[str, Tensor], prev_actions: Tensor, noise: Tensor
    ) -> Tensor:
        """Phase 1: the negative evidence lower bound, and what stands beside it."""
        config, (steps, batch) = self.config, prev_actions.shape[:2]
        memory, state = self.start(batch)
        loss, before = torch.zeros(()), None
        for t in range(steps):
            row = row_of(observations, t)
            embed = self.embed(row)
            memory, state, prior, posterior = self.cell(
                memory, state, prev_actions[t], embed, noise[t]
            )
            feature = torch.cat([memory, state], dim=-1)
            likelihood, weight = self.terms(feature, row, prior, posterior)
            if config.kl_balance is None:
                divergence = kl(posterior, prior)
            else:
                divergence = config.kl_balance * kl(detached(posterior), prior) + (
                    1 - config.kl_balance
                ) * kl(posterior, detached(prior))
            if config.free_nats:
                free = divergence.detach()
                divergence = torch.where(divergence > config.free_nats, divergence, free)
            loss = loss + likelihood + config.kl_scale * (divergence * weight).sum() / batch
            if before is not None:
                for name, probe in self.probes.items():
                    log_prob = log_density(row[name], probe(feature.detach()))
                    loss = loss - log_prob.sum() / batch
                guessed = self.idm(torch.cat([before, embed], dim=-1).detach())
                loss = loss - tanh_log_density(prev_actions[t], guessed).sum() / (steps - 1)
            before = feature
        return loss

    def inference_loss(
        self,
        policy: MeanStd,
        observations: Mapping[str, Tensor],
        noise_action: Tensor,
        noise_state: Tensor,
    ) -> Tensor:
        """Phase 2: the same evidence as a function of the policy, which fills in the actions."""
        steps, batch = noise_action.shape[:2]
        memory, state = self.start(batch)
        loss = torch.zeros(())
        for t in range(steps):
            row = row_of(observations, t)
            mean, std = policy(torch.cat([memory, state], dim=-1))
            action = torch.tanh(mean + std * noise_action[t])
            memory, state, prior, posterior = self.cell(
                memory, state, action, self.embed(row), noise_state[t]
            )
            feature = torch.cat([memory, state], dim=-1)
            likelihood, weight = self.terms(feature, row, prior, posterior)
            divergence = (kl(posterior, prior) * weight).sum() / batch
            loss = loss + likelihood + self.config.kl_scale * divergence
            if t:
                for name, probe in self.probes.items():
                    log_prob = log_density(row[name], probe(feature.detach()))
                    loss = loss - log_prob.sum() / batch
        return loss


def row_of(observations: Mapping[str, Tensor], t: int) -> dict[str, Tensor]:
    """What is seen at one time; images as [B, 3, 64, 64] in 0..1."""
    row = {name: values[t] for name, values in observations.items()}
    if "image" in row:
        row["image"] = row["image"].permute(0, 3, 1, 2).float() / 255
    return row


def log_density(value: Tensor, normal: Normal) -> Tensor:
    """Log density of a normal, per dimension."""
    mean, std = normal
    return -0.5 * ((value - mean) / std) ** 2 - std.log() - 0.5 * math.log(2 * math.pi)


def tanh_log_density(value: Tensor, normal: Normal) -> Tensor:
    """Log density of the tanh of a normal, per dimension."""
    value = value.clamp(-0.999, 0.999)
    return log_density(torch.atanh(value), normal) - torch.log(1 - value**2)


def kl(first: Normal, second: Normal) -> Tensor:
    """KL of two normals, summed over dimensions [B]."""
    variance = (first[1] / second[1]) ** 2
    distance = ((first[0] - second[0]) / second[1]) ** 2
    return 0.5 * (variance + distance - 1 - variance.log()).sum(dim=-1)


def detached(normal: Normal) -> Normal:
    """The same without gradient."""
    return normal[0].detach(), normal[1].detach()


def update(loss: Tensor, trained: nn.Module, optimizer: Any, grad_clip: float = 100.0) -> None:
    """One step down a loss."""
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(trained.parameters(), grad_clip)
    optimizer.step()
