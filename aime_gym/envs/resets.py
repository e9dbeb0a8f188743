"""Which of many environments start anew, and from which seeds: Gymnasium's conventions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Seeds = int | Sequence[int | None] | None


def list_seeds(seed: Seeds, num_envs: int) -> Sequence[int | None]:
    """A seed for each of N environments, of what a vector environment's `reset` takes.

    Args:
        seed: None for none; a number for it and those that follow; or one per environment.
        num_envs: N.

    Raises:
        ValueError: There is another number of seeds.
    """
    if seed is None:
        return [None] * num_envs
    if isinstance(seed, int | np.integer):
        return [int(seed) + index for index in range(num_envs)]
    if len(seed) != num_envs:
        raise ValueError(f"There are {num_envs} environments, but {len(seed)} seeds.")
    return [None if one is None else int(one) for one in seed]


def check_mask(mask: Any, num_envs: int) -> Mask:
    """A copy of ``options["reset_mask"]`` [N], or all of N environments where it is None.

    Raises:
        ValueError: It is no such array, or none of the environments starts anew.
    """
    if mask is None:
        return np.ones(num_envs, dtype=bool)
    if (
        not isinstance(mask, np.ndarray)
        or mask.shape != (num_envs,)
        or mask.dtype != np.bool_
        or not mask.any()
    ):
        raise ValueError(
            f"options['reset_mask'] is a bool array of shape ({num_envs},) with at least "
            f"one True; got {mask!r}."
        )
    return mask.copy()
