"""Learning to act inside a world model, without a step in the environment.

    a_h ~ policy(sg feature_h),   s_{h+1} ~ p(s_{h+1} | s_h, a_h),   h = 0 .. H-1
    max over the policy of  sum_h discount^(h+1) R_h - scale x KL(policy || tanh N(0, 0.88)),
        where sg(A_h) log policy(a_h), REINFORCE's, takes a share of the place of R_h
    min over the value of   (value(s_{h+1}) - (1 - discount) R_h)^2

Reward, value and return h belong to the state after action h. Hafner et al. 2020, "Dream to
Control" (Dreamer); Sekar et al. 2020, "Planning to Explore" (Plan2Explore), whose reward is
disagreement.
Shapes: H steps, N imagined trajectories, F feature, A action, E embedding.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from agents.distributions import Normal, normal_kl, normal_log_prob
from agents.nets import NormalHead
from agents.spaces import REWARD
from agents.world_models.acting import AS_THEY_ARE
from agents.world_models.loop import LoopNormalHead
from agents.world_models.network import WorldModelNet
from agents.world_models.rssm import Latent

UNIFORM_STD = 0.88
"""Beneath the tanh, the deviation of a normal whose actions are about uniform in -1 .. 1."""


class Imagined(NamedTuple):
    """What was imagined under a policy.

    Attributes:
        before: Features of the states before the actions [H, N, F].
        actions: [H, N, A].
        choices: The policy's normals beneath the actions [H, N, A].
        beneath: What was drawn from them, without gradient; actions are its tanh [H, N, A].
        after: Features of the states after the actions [H, N, F].
    """

    before: Tensor
    actions: Tensor
    choices: Normal
    beneath: Tensor
    after: Tensor


def imagine_with(
    model: WorldModelNet,
    policy: NormalHead,
    start: Latent,
    noise_action: Tensor,
    noise_state: Tensor,
    standardize: nn.Module = AS_THEY_ARE,
) -> Imagined:
    """Imagines what follows from states under a policy; gradients flow through the actions.

    Args:
        model: The world model.
        policy: feature -> normal beneath the action.
        start: s_0 [N, ..].
        noise_action: [H, N, A].
        noise_state: [H, N, S].
        standardize: Applied to features before the policy sees them [N, F] -> [N, F].
    """
    chooser = LoopNormalHead(policy, *noise_action.shape[:2])
    noises, drawn = iter(noise_action.unbind(0)), list[Normal]()

    def act(feature: Tensor) -> Tensor:
        drawn.append(chooser(standardize(feature.detach())))
        return torch.tanh(drawn[-1].sample(next(noises)))

    states, actions = model.imagine(start, noise_state, act)
    after = states.feature
    before = torch.cat([start.feature[None], after[:-1]])
    choices = Normal(*map(torch.stack, zip(*drawn, strict=True)))
    beneath = choices.detach().sample(noise_action)
    return Imagined(before, actions, choices, beneath, after)


def predicted_rewards(model: WorldModelNet, imagined: Imagined) -> Tensor:
    """The reward decoder's means [H, N]."""
    rewards: Tensor = model.decoders[REWARD](imagined.after).mean[..., 0]
    return rewards


def disagreement(model: WorldModelNet, imagined: Imagined) -> Tensor:
    """How differently an ensemble predicts what comes next [H, N]: where there is news.

    The mean over the embedding's dimensions of the log of the members' unbiased variance.
    """
    inputs = torch.cat([imagined.before, imagined.actions], dim=-1)
    predicted = torch.stack([head(inputs) for head in model.emb_prediction_heads])
    news: Tensor = predicted.var(dim=0).log().mean(dim=-1)
    return news


def distance_from_uniform(choices: Normal) -> Tensor:
    """KL of the policy from about uniform actions, per dimension [H, N, A], in nats."""
    mean, std = torch.zeros_like(choices.mean), torch.full_like(choices.std, UNIFORM_STD)
    return normal_kl(choices, Normal(mean, std))


def policy_loss(gains: Tensor, choices: Normal, discount: float, entropy_scale: float) -> Tensor:
    """What the policy minimises [].

    Args:
        gains: One per action from the first on [H', N], with their gradients: returns R_0, R_1, ..,
            or what `reinforced` makes of advantages.
        choices: The policy's normals [H, N, A].
        discount: Between 0 and 1.
        entropy_scale: Weight of the KL from uniform actions.
    """
    weights: Tensor = discount ** torch.arange(1, len(gains) + 1, device=gains.device)
    closeness = distance_from_uniform(choices).sum(dim=-1).mean()
    loss: Tensor = entropy_scale * closeness - (weights[:, None] * gains).mean()
    return loss


def advantages(rewards: Tensor, values: Tensor, returns: Tensor, discount: float) -> Tensor:
    """How much better an action was than the policy is on average, without gradient [H-2, N].

        A_h = R_h - (v_{h-1} - r_{h-1}) / discount,    h = 1 .. H-2

    R_h has in it the reward of the state after action h; the value of the state before, less that
    state's own reward, is what the policy expects of it. The first action has no such state.

    Args:
        rewards: r_0 .. r_{H-1} [H, N].
        values: v_0 .. v_{H-1} [H, N].
        returns: R_0 .. R_{H-2} [H-1, N].
        discount: Between 0 and 1.
    """
    expected = (values[:-2] - rewards[:-2]) / discount
    return (returns[1:] - expected).detach()


def reinforced(gains: Tensor, choices: Normal, beneath: Tensor) -> Tensor:
    """Advantages times log-probabilities [H-2, N]; the gradient is that of REINFORCE.

    Williams 1992, "Simple Statistical Gradient-Following Algorithms"; for Dreamer, Hafner et al.
    2023, Eq. 11.

    Args:
        gains: Advantages of the actions 1 .. H-2 [H-2, N].
        choices: The policy's normals [H, N, A].
        beneath: What was drawn from them, without gradient [H, N, A].
    """
    log_probs: Tensor = normal_log_prob(beneath, choices).sum(dim=-1)[1:-1]
    return gains * log_probs


def return_range(returns: Tensor) -> Tensor:
    """The distance between the 5th and 95th percentile of returns [H-1, N], without gradient [].

    Hafner et al. 2023, "Mastering Diverse Domains through World Models", Eq. 11.
    """
    flat = returns.detach().flatten()
    return torch.quantile(flat, 0.95) - torch.quantile(flat, 0.05)


def value_loss(value: nn.Module, after: Tensor, returns: Tensor, discount: float) -> Tensor:
    """What the value network minimises []; it gives values times 1 - discount.

    Args:
        value: Features [.., F] -> [.., 1].
        after: Features of the states after the actions [H-1, N, F].
        returns: [H-1, N].
        discount: Between 0 and 1.
    """
    error = value(after.detach())[..., 0] - (1 - discount) * returns.detach()
    loss: Tensor = 0.5 * error.square().mean()
    return loss
