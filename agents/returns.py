"""Returns: what rewards are worth together."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


def lambda_returns(rewards: Tensor, values: Tensor, discount: float, trace: float) -> Tensor:
    """Returns that mix rewards of all lengths, from the last value backwards.

        R_h = r_h + discount [ (1 - trace) v_{h+1} + trace R_{h+1} ],    R_{H-1} = v_{H-1}

    Sutton and Barto 2018, Sec. 12.1, with values of the states in which the rewards were given.

    Args:
        rewards: r_0 .. r_{H-1} [H, ..]; the last one does not count.
        values: v_0 .. v_{H-1} [H, ..].
        discount: Between 0 and 1.
        trace: Lambda; 0 looks one step ahead, 1 as far as there are rewards.

    Returns:
        R_0 .. R_{H-2} [H-1, ..].
    """
    following, returns = values[-1], list[Tensor]()
    for reward, value in zip(rewards[:-1].flip(0), values[1:].flip(0), strict=True):
        following = reward + discount * ((1 - trace) * value + trace * following)
        returns.append(following)
    return torch.stack(returns[::-1])


class VTrace(NamedTuple):
    """What V-trace makes of an unroll.

    Attributes:
        values: v_s, targets of the values [T, B].
        advantages: rho_s (r_s + gamma_s v_{s+1} - V(x_s)), weights of the policy gradient [T, B].
    """

    values: Tensor
    advantages: Tensor


def vtrace(
    log_ratios: Tensor,
    discounts: Tensor,
    rewards: Tensor,
    values: Tensor,
    max_rho: float = 1.0,
    max_c: float = 1.0,
) -> VTrace:
    """Off-policy returns of an unroll (Espeholt et al. 2018, Eq. 1 and Sec. 4.2).

        v_s - V(x_s) = delta_s + gamma_s c_s (v_{s+1} - V(x_{s+1})),
        delta_s = rho_s (r_s + gamma_s V(x_{s+1}) - V(x_s)),
        rho_s = min(max_rho, pi / mu),    c_s = min(max_c, pi / mu)

    On-policy, v_s is the discounted return with the last value behind it.

    Args:
        log_ratios: log pi(a_s | x_s) - log mu(a_s | x_s) [T, B].
        discounts: gamma_s, 0 where the step ended the episode [T, B].
        rewards: r_s [T, B].
        values: V(x_0) .. V(x_T) [T + 1, B].
        max_rho: Limit of the ratios in the temporal differences.
        max_c: Limit of the ratios in the trace.
    """
    ratios = log_ratios.exp()
    rhos, traces = ratios.clamp(max=max_rho), discounts * ratios.clamp(max=max_c)
    deltas = rhos * (rewards + discounts * values[1:] - values[:-1])
    excess, following = torch.zeros_like(values), torch.zeros_like(values[-1])
    for step in range(len(rewards) - 1, -1, -1):
        following = deltas[step] + traces[step] * following
        excess[step] = following
    targets = values + excess
    return VTrace(targets[:-1], rhos * (rewards + discounts * targets[1:] - values[:-1]))
