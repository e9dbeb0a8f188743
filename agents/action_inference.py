"""Action inference: the evidence of observations as a function of the policy that fills in actions.

    a_{t-1} ~ policy(s_{t-1}),   s_t ~ q(s_t | s_{t-1}, a_{t-1}, o_t)
    loss = -sum_t [ log p(o_t | s_t) - KL(q_t || p_t) ]

`aime` says what it is for. The batch may be of P policies, each with a part of its own, one after
another: `FeaturePolicies`. Axes are [T, B, ..]: T time, B batch, F feature, E embedding, A action,
S stoch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from agents.distributions import Normal
from agents.nets import InverseDynamics, MLPConfig, NormalHead, Standardizer
from agents.replay import Replay
from agents.running import Metrics
from agents.world_models.loop import LoopMLP, LoopNormalHead
from agents.world_models.losses import action_kl_loss, action_prior_loss
from agents.world_models.network import Act, Filtered, Observations, WorldModelNet
from agents.world_models.rssm import Latent

Objective = Literal["elbo", "kl_only", "reconstruction_only"]
FILTERED_TOGETHER = 50  # Demonstrations.


class FeaturePolicy(NormalHead):
    """The state's feature [..., F], and the embedding [..., E] where it is seen, to a normal.

    The normal is the one beneath the action [..., A]. The inputs are standardised by `fit`.

    Args:
        model: The world model.
        net: The networks, one for means and one for standard deviations.
        sees_observation: Whether it sees the embedding, too.
        initial_std: Standard deviation to begin with; None leaves it to the networks.
    """

    def __init__(
        self,
        model: WorldModelNet,
        net: MLPConfig,
        sees_observation: bool = False,
        initial_std: float | None = None,
    ) -> None:
        seen = model.feature_dim + sees_observation * model.embed_dim
        super().__init__(seen, model.action_dim, net)
        self.sees_observation = sees_observation
        self.standardizer = Standardizer(seen)
        if initial_std is not None:
            bias = self.std_net.net[-1].bias
            assert isinstance(bias, Tensor)
            nn.init.constant_(bias, math.log(math.expm1(initial_std)))

    def inputs(self, feature: Tensor, embed: Tensor) -> Tensor:
        """What it sees of features [..., F] and embeddings [..., E]."""
        return torch.cat([feature, embed], dim=-1) if self.sees_observation else feature

    def forward(self, inputs: Tensor) -> Normal:
        """[..., F] or [..., F + E] -> normal over [..., A]."""
        return super().forward(self.standardizer(inputs))

    def means(self, inputs: Tensor) -> Tensor:
        """[..., F] or [..., F + E] -> means [..., A]."""
        return super().means(self.standardizer(inputs))

    def unroll(self, embeds: Tensor) -> Callable[[Tensor], Normal]:
        """The same inside a time loop over embeddings [T, B, E]: feature [B, F] -> normal."""
        steps, batch = embeds.shape[:2]
        if not self.sees_observation:
            head = LoopNormalHead(self, steps, batch)
            return lambda feature: head(self.standardizer(feature))
        features = slice(len(self.standardizer.mean) - embeds.shape[-1])
        known = self.standardizer.part(embeds, slice(features.stop, None))
        head = LoopNormalHead(self, steps, batch, known)
        return lambda feature: head(self.standardizer.part(feature, features))


class FeaturePolicies:
    """P policies of one shape as one: each acts on its own part of a batch [.., P B, ..].

    Args:
        policies: The policies, whose weights get the gradients.
    """

    def __init__(self, policies: Sequence[FeaturePolicy]) -> None:
        self._policies = list(policies)
        scales = [policy.standardizer for policy in policies]
        self._mean, self._std = (
            torch.stack([getattr(scale, name) for scale in scales])[:, None]
            for name in ("mean", "std")
        )  # [P, 1, n]

    def inputs(self, feature: Tensor, embed: Tensor) -> Tensor:
        """What they see of features [.., P B, F] and embeddings [.., P B, E]."""
        return self._policies[0].inputs(feature, embed)

    def __call__(self, inputs: Tensor) -> Normal:
        """[.., P B, n] -> normals over [.., P B, A]."""
        parts = self._part(inputs).movedim(-3, 0)  # [P, .., B, n]
        rows = self._standardized(parts.flatten(1, -2))
        normal = LoopNormalHead(self._policies, 1, rows.shape[1])(rows)
        shaped = (values.unflatten(1, parts.shape[1:-1]).movedim(0, -3) for values in normal)
        return Normal(*(values.flatten(-3, -2) for values in shaped))

    def means(self, inputs: Tensor) -> Tensor:
        """Inputs of each policy [P, B, n] -> means [P, B, A]."""
        nets = [policy.mean_net for policy in self._policies]
        return LoopMLP([nets], 1, inputs.shape[1])(self._standardized(inputs))

    def unroll(self, embeds: Tensor) -> Callable[[Tensor], Normal]:
        """The same inside a time loop over embeddings [T, P B, E]: features [P B, F] -> normals."""
        steps, batch = len(embeds), embeds.shape[1] // len(self._policies)
        known, seen = None, self._mean.shape[-1]
        if self._policies[0].sees_observation:
            seen -= embeds.shape[-1]
            known = self._standardized(self._part(embeds), slice(seen, None))
        head = LoopNormalHead(self._policies, steps, batch, known)

        def choose(feature: Tensor) -> Normal:
            normal = head(self._standardized(self._part(feature), slice(seen)))
            return Normal(*(values.flatten(0, 1) for values in normal))

        return choose

    def _part(self, values: Tensor) -> Tensor:
        """[.., P B, n] -> [.., P, B, n]."""
        parts: Tensor = values.unflatten(-2, (len(self._policies), -1))
        return parts

    def _standardized(self, values: Tensor, columns: slice = slice(None)) -> Tensor:
        """[.., P, B, n] in each policy's own standard deviations."""
        return (values - self._mean[..., columns]) / self._std[..., columns]


class WindowStart(NamedTuple):
    """What lies before windows.

    Attributes:
        state: The states before their first rows [B, ..].
        embed: The embeddings of the rows before these [B, E].
        is_first: Whether they start with an episode [B], whose first row no action led to; state
            and embedding are zero there.
    """

    state: Latent
    embed: Tensor
    is_first: Tensor


class Windows(NamedTuple):
    """What an update of the evidence is computed from.

    Attributes:
        observations: Sensor -> [T, B, n].
        embeds: Their embeddings [T, B, E].
        noise_action: [T, B, A].
        noise_state: [T, B, S].
        before: What lies before the windows; None for the zero state, from which the policy
            chooses an action even where an episode starts, as in the reference.
    """

    observations: Observations
    embeds: Tensor
    noise_action: Tensor
    noise_state: Tensor
    before: WindowStart | None = None


class Terms(NamedTuple):
    """How the loss is made up; see `AIMEConfig`.

    Attributes:
        objective: Which terms of the evidence count.
        guidance: Whether inverse dynamics chooses the actions.
        action_prior: Weight of the action prior.
    """

    objective: Objective = "elbo"
    guidance: bool = False
    action_prior: float = 0.0


EVIDENCE = Terms()


class Inferred(NamedTuple):
    """Windows, filtered with actions that were chosen on the way.

    Attributes:
        filtered: States and actions [T, B, ..].
        chosen: What the actions were drawn from, beneath the tanh [T, B, A].
        preceding: Embeddings e_{t-1} [T, B, E].
        states: Features of s_{t-1} [T, B, F], where the terms need them.
        followed: With guidance, the policy's own choices [T, B, A].
    """

    filtered: Filtered
    chosen: Normal
    preceding: Tensor
    states: Tensor | None = None
    followed: Normal | None = None


def action_inference_loss(
    model: WorldModelNet,
    policy: NormalHead,
    windows: Windows,
    terms: Terms = EVIDENCE,
) -> tuple[Tensor, Metrics, Tensor]:
    """The negative evidence lower bound of observations, as a function of the policy.

    Free nats do not act and the KL is not balanced: balancing would keep the value and change the
    gradient. With guidance, a ~ idm(s_{t-1}, e_t), and kl_scale x KL(idm || policy) is added. With
    an action prior b, b x (mode of the policy - mode of idm)^2 is added, summed over t and action
    dimensions.

    Args:
        model: The world model; freeze it unless it is trained along.
        policy: feature -> normal beneath the action.
        windows: What was observed, and noise.
        terms: What counts.

    Returns:
        The loss, its parts by name, and the inferred actions a_{t-1} [T, B, A].
    """
    inferred = infer(model, policy, windows, terms)
    loss, metrics = inference_loss(model, inferred, windows.observations, windows.embeds, terms)
    return loss, metrics, inferred.filtered.actions


def infer(
    model: WorldModelNet, policy: NormalHead | FeaturePolicies, windows: Windows, terms: Terms
) -> Inferred:
    """Filters windows with the actions that the policy, or inverse dynamics, chooses."""
    embeds, before = windows.embeds, windows.before
    preceding = _preceding(embeds, None if before is None else before.embed)
    chooser = _unrolled(model.idm if terms.guidance else policy, preceding, embeds)
    noises, choices = iter(windows.noise_action.unbind(0)), list[Normal]()

    def act(feature: Tensor) -> Tensor:
        choices.append(chooser(feature))
        action = torch.tanh(choices[-1].sample(next(noises)))
        if before is not None and len(choices) == 1:
            action = action * ~before.is_first[:, None]
        return action

    start = None if before is None else before.state
    filtered = model.filter(embeds, windows.noise_state, act, start)
    chosen = Normal(*map(torch.stack, zip(*choices, strict=True)))
    if not (terms.guidance or terms.action_prior):
        return Inferred(filtered, chosen, preceding)
    states = _preceding(filtered.latents.feature, None if start is None else start.feature)
    if not terms.guidance:
        return Inferred(filtered, chosen, preceding, states)
    seen = states
    if isinstance(policy, FeaturePolicy | FeaturePolicies):
        seen = policy.inputs(states, preceding)
    return Inferred(filtered, chosen, preceding, states, policy(seen))


def inference_loss(
    model: WorldModelNet,
    inferred: Inferred,
    observations: Observations,
    embeds: Tensor,
    terms: Terms,
) -> tuple[Tensor, Metrics]:
    """The loss of what was inferred from windows, and its parts by name."""
    feature = inferred.filtered.latents.feature
    decoded = feature.detach() if terms.objective == "kl_only" else feature
    reconstruction, kl, metrics = model.evidence(inferred.filtered, decoded, observations)
    kl = model.config.kl_scale * kl
    parts = {"elbo": reconstruction + kl, "kl_only": kl, "reconstruction_only": reconstruction}
    loss = parts[terms.objective]
    metrics["evidence_loss"] = loss.detach()
    if inferred.followed is not None:
        weight = model.config.kl_scale
        distance, more = action_kl_loss(inferred.chosen, inferred.followed)
        loss, metrics = loss + weight * distance, metrics | more
    elif terms.action_prior:
        explained = explain(model, inferred, embeds)
        distance, more = action_prior_loss(inferred.chosen, explained)
        loss, metrics = loss + terms.action_prior * distance, metrics | more
    metrics["total_loss"] = loss.detach()
    return loss, metrics


@torch.no_grad()
def explain(model: WorldModelNet, inferred: Inferred, embeds: Tensor) -> Normal:
    """What inverse dynamics makes of windows [T, B, A]."""
    assert model.idm is not None
    assert inferred.states is not None
    inputs = model.idm.inputs(inferred.states, inferred.preceding, embeds)
    explained: Normal = model.idm(inputs)
    return explained


def regression_loss(means: Tensor, actions: Tensor) -> Tensor:
    """Mean squared difference of the modes of normals beneath a tanh and actions [.., B, A]."""
    return (torch.tanh(means) - actions).square().mean(dim=(-2, -1))


def _preceding(rows: Tensor, before: Tensor | None) -> Tensor:
    """x_t [T, B, ..] -> x_{t-1} [T, B, ..], with what lies before the first [B, ..], or zeros."""
    first = torch.zeros_like(rows[:1]) if before is None else before[None]
    return torch.cat([first, rows[:-1]])


def _unrolled(
    chooser: NormalHead | FeaturePolicies | None, preceding: Tensor, embeds: Tensor
) -> Callable[[Tensor], Normal]:
    """What chooses actions inside a time loop, from the features of s_{t-1}.

    Args:
        chooser: A policy, several, or inverse dynamics.
        preceding: Embeddings e_{t-1} [T, B, E].
        embeds: Embeddings e_t [T, B, E].
    """
    assert chooser is not None
    if isinstance(chooser, FeaturePolicy | FeaturePolicies):
        return chooser.unroll(preceding)
    known = None
    if isinstance(chooser, InverseDynamics):
        known = chooser.seen(preceding, embeds)
        if not chooser.sees_state:
            normals = map(Normal, *(part.unbind(0) for part in chooser(known)))
            return lambda feature: next(normals)
    steps, batch = embeds.shape[:2]
    return LoopNormalHead(chooser, steps, batch, known)


# Whole demonstrations


class FilteredRows(NamedTuple):
    """Whole demonstrations, one after another.

    Attributes:
        states: s_t of all rows [rows, ..].
        actions: The actions chosen in all rows but each demonstration's last, a_t in -1 .. 1
            [N, A].
    """

    states: Latent
    actions: Tensor


@torch.no_grad()
def filter_demonstrations(
    model: WorldModelNet, replays: Sequence[Replay], chooser: NormalHead | FeaturePolicies
) -> list[FilteredRows]:
    """Filters whole demonstrations with posterior means and the modes of what chooses.

    The policy chooses from the feature, inverse dynamics from the feature and what follows.
    Demonstrations of the same length go together.

    Args:
        model: The world model.
        replays: The demonstrations; those of P policies have the same lengths, in the same order.
        chooser: A policy, several, or inverse dynamics.

    Returns:
        The rows of each replay.
    """
    lengths = replays[0].lengths
    embeds = [
        embed for replay in replays for embed in replay.embedded(model.embed).split(replay.lengths)
    ]
    states: list[Latent] = [Latent(e, e) for e in embeds]
    actions = list(embeds)
    for group in alike(lengths, FILTERED_TOGETHER):
        chosen = [first + index for first in range(0, len(embeds), len(lengths)) for index in group]
        seen = torch.stack([embeds[index] for index in chosen], dim=1)
        noise = seen.new_zeros(*seen.shape[:2], model.config.stoch_dim)
        filtered = model.filter(seen, noise, modes(chooser, seen))
        for place, index in enumerate(chosen):
            states[index] = Latent(*(part[:, place] for part in filtered.latents))
            actions[index] = filtered.actions[1:, place]
    return [
        FilteredRows(
            Latent(*map(torch.cat, zip(*states[first : first + len(lengths)], strict=True))),
            torch.cat(actions[first : first + len(lengths)]),
        )
        for first in range(0, len(embeds), len(lengths))
    ]


def modes(chooser: NormalHead | FeaturePolicies, embeds: Tensor) -> Act:
    """The modes of what chooses, for one pass over embeddings [T, B, E] from their start."""
    choose = _unrolled(chooser, _preceding(embeds, None), embeds)
    led = iter([0.0] + [1.0] * (len(embeds) - 1))  # No action led to a first row.
    return lambda feature: torch.tanh(choose(feature).mean) * next(led)


def alike(lengths: list[int], at_most: int) -> Iterator[list[int]]:
    """Numbers of trajectories in groups of one length."""
    for length in sorted({*lengths}):
        group = [index for index, other in enumerate(lengths) if other == length]
        for first in range(0, len(group), at_most):
            yield group[first : first + at_most]
