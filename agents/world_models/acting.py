"""Acting on what a world model filters: one step of AIME's and Dreamer's policies.

    s_t ~ q(s_t | s_{t-1}, a_{t-1}, o_t),    a_t = tanh(policy(s_t))

Shapes: B batch, D deter, S stoch, A action.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from agents.nets import NormalHead
from agents.world_models.network import WorldModelNet
from agents.world_models.rssm import Latent

AS_THEY_ARE = nn.Identity()
ActingState = tuple[Tensor, ...]
"""deter [B, D], stoch [B, S] and the previous action [B, A]."""


def initial_acting_state(model: WorldModelNet, batch: int) -> ActingState:
    """The state at an episode's start: zero, and no previous action."""
    latent = model.cell.initial(batch)
    return (*latent, latent.deter.new_zeros(batch, model.action_dim))


def filter_and_act(
    model: WorldModelNet,
    policy: NormalHead,
    observations: Mapping[str, Tensor],
    state: ActingState,
    noise_state: Tensor | None,
    noise_action: Tensor | None,
    see_observation: bool = False,
    standardize: nn.Module = AS_THEY_ARE,
) -> tuple[Tensor, ActingState]:
    """One posterior step, and what the policy does then.

    Args:
        model: The world model.
        policy: feature -> normal beneath the action.
        observations: Sensor -> [B, n].
        state: What the previous step returned.
        noise_state: [B, S]; None filters with posterior means.
        noise_action: [B, A]; None acts with the policy's modes.
        see_observation: Whether the policy sees the embedding after the feature.
        standardize: Applied to what the policy sees [B, F] -> [B, F].

    Returns:
        Actions in -1 .. 1 [B, A], and the next state.
    """
    deter, stoch, prev_action = state
    embed = model.embed(observations)
    prev = Latent(deter, stoch)
    if noise_state is None:
        latent = model.cell.observe_means(prev, prev_action, embed)
    else:
        latent, _ = model.cell.observe(prev, prev_action, embed, noise_state)
    seen = torch.cat([*latent, embed], dim=-1) if see_observation else latent.feature
    seen = standardize(seen)
    beneath = policy.means(seen) if noise_action is None else policy(seen).sample(noise_action)
    action = torch.tanh(beneath)
    return action, (*latent, action)
