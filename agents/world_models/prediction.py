"""What a world model predicts of a trajectory: in open loop, and under a policy.

    s_t ~ q(s_t | s_{t-1}, a_{t-1}, o_t)    rows that the model sees: filtered
    s_t ~ p(s_t | s_{t-1}, a_{t-1})         later rows: imagined, without another look

States are means, so that nothing is random. Axes are [T, 1, ..]: T time, one sequence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.distributions import Normal
from agents.replay import Replay
from agents.world_models.network import Act, WorldModelNet
from agents.world_models.rssm import Latent
from aime_gym.trajectory import IMAGE, Trajectory

Readings = dict[str, NDArray[Any]]
"""Sensor -> [T, n] in its own units; images uint8 [T, 64, 64, 3]; the reward as a sensor [T, 1]."""


@torch.no_grad()
def open_loop(model: WorldModelNet, trajectory: Trajectory, seen: int) -> Readings:
    """What a world model predicts of a trajectory, of which it sees the first rows alone.

    Args:
        model: The world model.
        trajectory: What happened, T rows, with the actions, all of which the model is told.
        seen: Rows that the model filters; it imagines the others.

    Returns:
        Every decoded sensor, and the hidden ones that the trajectory has, as probes read them, over
        T rows.

    Raises:
        ValueError: The trajectory has no actions, or lacks a sensor; or it is not longer than
            `seen`, which is at least 1.
    """
    if not 1 <= seen < len(trajectory):
        raise ValueError(
            f"Of a trajectory of {len(trajectory)} rows, 1 to {len(trajectory) - 1} can be seen "
            f"before the others are predicted; got {seen}."
        )
    filtered, actions = _filter(model, trajectory, seen)
    imagined = _imagine(model, filtered, actions[seen:])
    features = torch.cat([filtered.feature, imagined.feature])
    probed = [name for name in model.probes if name in trajectory.sensors]
    return _read(model, features, probed)


@torch.no_grad()
def imagination(
    model: WorldModelNet, policy: Callable[[Tensor], Normal], start: Trajectory, horizon: int
) -> Readings:
    """What a policy does in a world model's imagination, from where a trajectory ends.

    Args:
        model: The world model.
        policy: feature -> normal beneath the action, of which the mean is taken.
        start: The rows that the model sees before.
        horizon: H, the rows that it imagines.

    Returns:
        Every decoded sensor over H rows.

    Raises:
        ValueError: The trajectory has no actions, or lacks a sensor.
    """
    filtered, _ = _filter(model, start, len(start))
    imagined = _imagine(model, filtered, lambda feature: policy(feature).mean.tanh(), horizon)
    return _read(model, imagined.feature)


def _filter(model: WorldModelNet, trajectory: Trajectory, rows: int) -> tuple[Latent, Tensor]:
    """States of the first rows [rows, 1, ..], and what led to all T rows [T, 1, A]."""
    info, device = model.info, model.cell.initial_memory.device
    missing = [name for name in info.names if name not in trajectory.sensors]
    if missing:
        raise ValueError(
            f"The world model sees {', '.join(info.names)}; the trajectory lacks "
            f"{', '.join(missing)}."
        )
    replay = Replay(info, info.names, device=device).add([trajectory])
    assert replay.prev_actions is not None
    actions = replay.prev_actions[:, None]
    embeds = model.embed({name: column[:rows, None] for name, column in replay.columns.items()})
    noise = embeds.new_zeros(rows, 1, model.config.stoch_dim)
    return model.filter(embeds, noise, actions[:rows]).latents, actions


def _imagine(
    model: WorldModelNet, filtered: Latent, actions: Tensor | Act, horizon: int | None = None
) -> Latent:
    """What follows the last filtered state, with prior means [H, 1, ..]."""
    steps = len(actions) if isinstance(actions, Tensor) else horizon
    assert steps is not None
    start = Latent(*(part[-1] for part in filtered))
    noise = start.stoch.new_zeros(steps, *start.stoch.shape)
    return model.imagine(start, noise, actions)[0]


def _read(model: WorldModelNet, features: Tensor, probed: list[str] | None = None) -> Readings:
    """Features [T, 1, F] -> what sensors are expected to read, as arrays."""
    expected = model.read(features)
    for name in probed or ():
        expected[name] = model.unstandardize(name, model.probes[name](features).mean)
    readings = {name: values[:, 0].cpu().numpy() for name, values in expected.items()}
    if IMAGE in readings:
        pictures = np.moveaxis(readings[IMAGE], 1, -1)
        readings[IMAGE] = np.round(255 * pictures).astype(np.uint8)
    return readings
