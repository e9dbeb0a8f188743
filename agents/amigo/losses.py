"""Losses of AMIGo: functions of tensors, summed over time and averaged over the batch."""

from __future__ import annotations

import torch
from torch import Tensor

from agents.returns import vtrace
from agents.running import Metrics


def actor_critic_loss(
    logits: Tensor,
    values: Tensor,
    choices: Tensor,
    log_probs: Tensor,
    rewards: Tensor,
    discounts: Tensor,
    value_cost: float,
    entropy_cost: float,
) -> tuple[Tensor, Metrics]:
    """The loss of a policy and its value, on unrolls of an older policy (IMPALA).

        loss = sum_t mean_b [ -log pi(a_t) A_t + value_cost (v_t - V_t)^2 / 2 - entropy_cost H_t ]

    v and A are those of `vtrace`, as constants (Espeholt et al. 2018, Sec. 4.2). The teacher's loss
    is the same, with one step and a discount of 0.

    Args:
        logits: Of the policy that learns [T, B, n].
        values: Its values, and that of what came last [T + 1, B].
        choices: What was chosen [T, B].
        log_probs: Of the choices, when they were made [T, B].
        rewards: [T, B].
        discounts: 0 where an episode ended [T, B].
        value_cost: Weight of the values' squared error.
        entropy_cost: Weight of the entropy H.

    Returns:
        The loss, and its parts: ``policy_loss``, ``value_loss`` (half of the squared error, per
        step), ``entropy`` (nats).
    """
    all_log_probs = logits.log_softmax(-1)
    chosen = all_log_probs.gather(-1, choices[..., None]).squeeze(-1)
    entropy = -(all_log_probs.exp() * all_log_probs).sum(-1)
    with torch.no_grad():
        targets = vtrace(chosen - log_probs, discounts, rewards, values)
    policy_loss = -chosen * targets.advantages
    value_loss = 0.5 * (targets.values - values[:-1]).square()
    per_step = policy_loss + value_cost * value_loss - entropy_cost * entropy  # [T, B]
    parts = {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}
    return per_step.mean(1).sum(), {name: part.mean().detach() for name, part in parts.items()}


def novelty_rewards(novelty: Tensor, new: Tensor, over: Tensor) -> Tensor:
    """Rewards for going where it is more novel (Zhang et al. 2020, BeBold).

        r_t = max(nov(s_{t+1}) - nov(s_t), 0)  if s_{t+1} is new in its episode

    A step that ends an episode earns nothing: what comes after it belongs to the next one.

    Args:
        novelty: [T + 1, B].
        new: Whether what came after each step was new in its episode [T, B].
        over: Whether the step ended an episode [T, B].
    """
    return (novelty[1:] - novelty[:-1]).clamp(min=0) * (new & ~over)


def prediction_error(predicted: Tensor, target: Tensor) -> Tensor:
    """The distance of what is predicted from what is there [..]: the novelty."""
    return (predicted - target).square().sum(-1).sqrt()


def prediction_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Squared distances [T, B, n], summed over time and averaged over the batch."""
    return (predicted - target.detach()).square().sum(-1).mean(1).sum()
