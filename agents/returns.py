"""Returns: what rewards are worth together."""

from __future__ import annotations

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
