"""The networks of a world model over sequences: filter, imagine, and the evidence lower bound.

Axes are [T, B, ..]: T time, B batch, E embedding, F feature, A action, S stoch; observations are a
dictionary, sensor -> [T, B, n], images uint8 [T, B, H, W, 3]. Randomness is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from agents.distributions import Normal
from agents.nets import (
    MLP,
    ConstantStdDecoder,
    ImageDecoder,
    ImageEncoder,
    InverseDynamics,
    MeanDecoder,
    MeanStdDecoder,
    MLPConfig,
    Standardizer,
    scale_images,
)
from agents.running import Metrics
from agents.spaces import REWARD, EnvInfo
from agents.world_models.config import WorldModelConfig
from agents.world_models.loop import CellLoop
from agents.world_models.losses import (
    disagreement_loss,
    inverse_dynamics_loss,
    kl_loss,
    kl_weight,
    prediction_loss,
    probe_loss,
    reconstruction_loss,
)
from agents.world_models.rssm import RSSM, RSSMO, Cell, Latent, ResidualRSSM
from aime_gym.trajectory import IMAGE, IMAGE_SHAPE

Observations = Mapping[str, Tensor]
Act = Callable[[Tensor], Tensor]
"""feature_{t-1} [B, F] -> a_{t-1} [B, A], called once for each t in order."""

DECODERS = {"mean": MeanDecoder, "mean_std": MeanStdDecoder, "constant_std": ConstantStdDecoder}


class Filtered(NamedTuple):
    """States given observations.

    Attributes:
        latents: s_t, [T, B, ..].
        posterior: q(z_t), [T, B, S].
        actions: The actions that led to them, a_{t-1} [T, B, A].
    """

    latents: Latent
    posterior: Normal
    actions: Tensor


class WorldModelNet(nn.Module):
    """The networks of a world model.

    Args:
        info: The environment, whose visible sensors are encoded and decoded, and whose hidden ones
            are read by probes.
        config: Networks and losses.

    Raises:
        TypeError: The environment's actions are discrete.
        ValueError: Its images are not 64x64.
    """

    def __init__(self, info: EnvInfo, config: WorldModelConfig) -> None:
        super().__init__()
        if info.image and info.observation_space.shape != IMAGE_SHAPE:
            raise ValueError(
                f"A world model sees images of shape {IMAGE_SHAPE}; {info} has "
                f"{info.observation_space.shape}. gymnasium.wrappers.ResizeObservation resizes."
            )
        self.info, self.config = info, config
        self.action_dim = info.box_actions.shape[0]
        self.standardizers = nn.ModuleDict()
        if config.standardize:
            sizes = {**info.visible, **info.hidden}
            self.standardizers.update({name: Standardizer(n) for name, n in sizes.items()})
        self.encoders = nn.ModuleDict()
        if info.image:
            self.encoders[IMAGE] = ImageEncoder(config.image_width)
            self.embed_dim = 32 * config.image_width
        elif config.encoder.hidden_layers:
            self.encoders["tabular"] = MLP(sum(info.visible.values()), None, config.encoder)
            self.embed_dim = config.encoder.hidden_dim
        else:
            self.embed_dim = sum(info.visible.values())
        self.cell = self._make_cell()
        self.feature_dim = self.cell.feature_dim
        self.decoders = nn.ModuleDict(self._make_decoders())
        self.probes = nn.ModuleDict(
            {
                name: MeanDecoder(self.feature_dim, size, config.probe)
                for name, size in info.hidden.items()
            }
        )
        self.idm: InverseDynamics | None = None
        if config.idm != "none":
            head = config.idm_net or MLPConfig(config.hidden_dim)
            dims = (self.feature_dim, self.embed_dim, self.action_dim)
            self.idm = InverseDynamics(
                *dims,
                head,
                None if config.idm_std_dim is None else MLPConfig(config.idm_std_dim, 1, "swish"),
                sees_both=config.idm_sees_both,
                sees_state=config.idm_sees_state,
            )
        ensemble = MLPConfig(config.ensemble_dim)
        self.emb_prediction_heads = nn.ModuleList(
            MLP(self.feature_dim + self.action_dim, self.embed_dim, ensemble)
            for _ in range(config.num_ensembles)
        )

    def _make_cell(self) -> Cell:
        config = self.config
        dims = (self.action_dim, self.embed_dim, config.deter_dim, config.stoch_dim)
        if config.cell == "rssm":
            return RSSM(*dims, MLPConfig(config.hidden_dim), config.min_std)
        hidden = MLPConfig(config.hidden_dim, 1, "swish", layer_norm=True)
        if config.cell == "rssmo":
            return RSSMO(*dims, hidden, config.min_std)
        return ResidualRSSM(*dims, replace(hidden, skip=True), config.min_std)

    def _make_decoders(self) -> dict[str, nn.Module]:
        config, decoders = self.config, dict[str, nn.Module]()
        decoder = DECODERS[config.decoder_kind]
        for name, size in self.info.visible.items():
            decoders[name] = decoder(self.feature_dim, size, config.decoder)
        if self.info.image:
            decoders[IMAGE] = ImageDecoder(self.feature_dim, config.image_width)
        if config.reward:
            decoders[REWARD] = (
                MeanDecoder(self.feature_dim, 1, config.reward_net)
                if config.reward_net.hidden_layers
                else decoder(self.feature_dim, 1, config.decoder)
            )
        return decoders

    # Observations

    def embed(self, observations: Observations) -> Tensor:
        """Sensor -> [.., n] to embeddings e_t [.., E]."""
        if self.info.image:
            embeds: Tensor = self.encoders[IMAGE](scale_images(observations[IMAGE]))
            return embeds
        vectors = [self.standardize(name, observations[name]) for name in self.info.visible]
        vector = torch.cat(vectors, dim=-1)
        return self.encoders["tabular"](vector) if "tabular" in self.encoders else vector

    def standardize(self, name: str, values: Tensor) -> Tensor:
        """A sensor's values [.., n], in standard deviations where the model works with these."""
        if name not in self.standardizers:
            return values
        standardized: Tensor = self.standardizers[name](values)
        return standardized

    def unstandardize(self, name: str, values: Tensor) -> Tensor:
        """The inverse of `standardize`: a sensor's values [.., n] in its own units."""
        if name not in self.standardizers:
            return values
        standardizer = self.standardizers[name]
        assert isinstance(standardizer, Standardizer)
        return standardizer.invert(values)

    @property
    def deviations(self) -> dict[str, Tensor]:
        """Sensor -> the deviations [n] in which the model works; none for other sensors."""
        return {
            name: standardizer.std
            for name, standardizer in self.standardizers.items()
            if isinstance(standardizer, Standardizer)
        }

    def targets(self, observations: Observations) -> dict[str, Tensor]:
        """What decoders are compared with: standardised vectors, and images scaled to 0..1."""
        return {
            name: scale_images(observations[name])
            if name == IMAGE
            else self.standardize(name, observations[name])
            for name in self.decoders
        }

    def decode(self, feature: Tensor) -> dict[str, Normal]:
        """Features [.., F] -> sensor -> normal over [.., n], standardised as `targets` are."""
        return {name: decoder(feature) for name, decoder in self.decoders.items()}

    def read(self, feature: Tensor) -> dict[str, Tensor]:
        """Features [.., F] -> sensor -> expected values [.., n] in the sensor's own units."""
        decoded = self.decode(feature)
        return {name: self.unstandardize(name, normal.mean) for name, normal in decoded.items()}

    # Sequences

    def filter(
        self,
        embeds: Tensor,
        noise: Tensor,
        actions: Tensor | Act,
        start: Latent | None = None,
    ) -> Filtered:
        """States from observations, and from actions that are known or chosen on the way.

        Args:
            embeds: e_t [T, B, E].
            noise: [T, B, S].
            actions: The actions that led to them, a_{t-1} [T, B, A], or what chooses them.
            start: s_{-1} [B, ..]; None for the zero state.
        """
        steps, batch = embeds.shape[:2]
        known, choose = _known_or_chosen(actions)
        loop = CellLoop(self.cell, steps, batch, embeds, known)
        latent = self.cell.initial(batch) if start is None else start
        latents, posteriors, chosen = [], [], []
        for step_noise in noise.unbind(0):
            action = choose(latent.feature) if choose else None
            latent, posterior = loop.observe(latent, step_noise, action)
            latents.append(latent)
            posteriors.append(posterior)
            chosen.append(action)
        return Filtered(
            Latent(*map(torch.stack, zip(*latents, strict=True))),
            Normal(*map(torch.stack, zip(*posteriors, strict=True))),
            _stack_actions(known, chosen),
        )

    def imagine(self, start: Latent, noise: Tensor, actions: Tensor | Act) -> tuple[Latent, Tensor]:
        """States from the prior alone, under actions that are known or chosen on the way.

        Args:
            start: s_0 [B, ..].
            noise: [H, B, S].
            actions: a_0 .. a_{H-1} [H, B, A], or what chooses them.

        Returns:
            s_1 .. s_H [H, B, ..], and the actions [H, B, A].
        """
        horizon, batch = noise.shape[:2]
        known, choose = _known_or_chosen(actions)
        loop = CellLoop(self.cell, horizon, batch, prev_actions=known)
        latent, latents, chosen = start, [], []
        for step_noise in noise.unbind(0):
            action = choose(latent.feature) if choose else None
            latent = loop.imagine(latent, step_noise, action)
            latents.append(latent)
            chosen.append(action)
        states = Latent(*map(torch.stack, zip(*latents, strict=True)))
        return states, _stack_actions(known, chosen)

    # Losses

    def loss(
        self,
        observations: Observations,
        prev_actions: Tensor,
        noise: Tensor,
        start: Latent | None = None,
    ) -> tuple[Tensor, Metrics]:
        """Phase 1: the negative evidence lower bound, weighted, and the heads' losses.

        `loss_and_states` also gives the states.

        Args:
            observations: Sensor -> [T, B, n]; with a reward decoder, ``"reward"`` [T, B, 1] too.
            prev_actions: a_{t-1} [T, B, A].
            noise: [T, B, S].
            start: s_{-1} [B, ..]; None for the zero state.

        Returns:
            The loss, and its parts by name, in nats.
        """
        return self.loss_and_states(observations, prev_actions, noise, start)[:2]

    def loss_and_states(
        self,
        observations: Observations,
        prev_actions: Tensor,
        noise: Tensor,
        start: Latent | None = None,
    ) -> tuple[Tensor, Metrics, Latent]:
        """As `loss`, and the filtered states [T, B, ..]."""
        config = self.config
        embeds = self.embed(observations)
        filtered = self.filter(embeds, noise, prev_actions, start)
        feature = filtered.latents.feature
        reconstruction, kl, metrics = self.evidence(
            filtered,
            feature,
            observations,
            config.free_nats,
            config.kl_balance,
            config.prediction_scale,
        )
        loss = reconstruction + config.kl_scale * kl
        for part, part_metrics in (
            self._inverse_dynamics(feature, embeds, prev_actions),
            self._disagreement(feature, embeds, prev_actions),
        ):
            loss = loss + part
            metrics |= part_metrics
        metrics["total_loss"] = loss.detach()
        return loss, metrics, filtered.latents

    def evidence(
        self,
        filtered: Filtered,
        feature: Tensor,
        observations: Observations,
        free_nats: float = 0.0,
        kl_balance: float | None = None,
        prediction_scale: float = 0.0,
    ) -> tuple[Tensor, Tensor, Metrics]:
        """The two parts of the negative evidence lower bound, weighted, with what stands beside it.

        That is the probes' loss, where probes of sensors that the observations lack, as
        demonstrations may, are passed over; and the prediction loss, where its scale is not zero.

        Returns:
            Reconstruction, probe and prediction loss [], KL loss [] before `kl_scale`, and metrics;
            ``elbo``, ``rec_term`` and ``kl_term`` are unweighted.
        """
        predictions, targets = self.decode(feature), self.targets(observations)
        reweighting = self.config.reweighting
        reconstruction, metrics = reconstruction_loss(
            predictions, targets, reweighting, self.deviations
        )
        prior = self.cell.prior(filtered.latents.deter)
        if prediction_scale:
            next_steps = Latent(filtered.latents.deter[1:], prior.mean[1:]).feature
            expected = {name: self.decoders[name](next_steps).mean for name in self.info.visible}
            prediction, prediction_metrics = prediction_loss(expected, predictions, targets)
            reconstruction = reconstruction + prediction_scale * prediction
            metrics |= prediction_metrics
        weight = kl_weight(predictions, reweighting).to(feature)
        kl, kl_metrics = kl_loss(filtered.posterior, prior, weight, free_nats, kl_balance)
        seen = {name: probe for name, probe in self.probes.items() if name in observations}
        if seen:
            detached = feature.detach()
            probes = {name: probe(detached) for name, probe in seen.items()}
            hidden = {name: self.standardize(name, observations[name]) for name in seen}
            probe, probe_metrics = probe_loss(probes, hidden, self.deviations)
            reconstruction = reconstruction + probe
            metrics |= probe_metrics
        metrics |= kl_metrics
        metrics["elbo"] = metrics["rec_term"] + metrics["kl_term"]
        metrics["reconstruction_loss"] = reconstruction.detach()
        return reconstruction, kl, metrics

    def _inverse_dynamics(
        self, feature: Tensor, embeds: Tensor, prev_actions: Tensor
    ) -> tuple[Tensor, Metrics]:
        if self.idm is None:
            return feature.new_zeros(()), {}
        inputs = self.idm.inputs(feature[:-1], embeds[:-1], embeds[1:])
        if self.config.idm == "detach":
            inputs = inputs.detach()
        return inverse_dynamics_loss(self.idm(inputs), prev_actions[1:], self.config.idm_loss)

    def inverse_dynamics(
        self,
        observations: Observations,
        prev_actions: Tensor,
        start: Latent | None = None,
    ) -> tuple[Tensor, Metrics]:
        """The loss of inverse dynamics alone, on states that are posterior means.

        See `loss` for the arguments; only the head has gradients. Nothing is filtered where it
        does not see the state.
        """
        with torch.no_grad():
            feature = embeds = self.embed(observations)
            if self.config.idm_sees_state:
                noise = embeds.new_zeros(*embeds.shape[:2], self.config.stoch_dim)
                feature = self.filter(embeds, noise, prev_actions, start).latents.feature
        loss, metrics = self._inverse_dynamics(feature, embeds, prev_actions)
        return loss, {**metrics, "total_loss": loss.detach()}

    def _disagreement(
        self, feature: Tensor, embeds: Tensor, prev_actions: Tensor
    ) -> tuple[Tensor, Metrics]:
        if not self.emb_prediction_heads:
            return feature.new_zeros(()), {}
        inputs = torch.cat([feature[:-1], prev_actions[1:]], dim=-1).detach()
        predicted = [head(inputs) for head in self.emb_prediction_heads]
        return disagreement_loss(predicted, embeds[1:].detach())


def _known_or_chosen(actions: Tensor | Act) -> tuple[Tensor | None, Act | None]:
    return (actions, None) if isinstance(actions, Tensor) else (None, actions)


def _stack_actions(known: Tensor | None, chosen: list[Tensor | None]) -> Tensor:
    """All actions [T, B, A]."""
    if known is not None:
        return known
    return torch.stack([action for action in chosen if action is not None])
