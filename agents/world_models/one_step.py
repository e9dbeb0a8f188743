"""How well a world model predicts one step ahead: what limits action inference.

    error_t = ( E[o_t | h_t, z_t = prior mean] - o_t )^2,   h_t = f(posterior state at t-1, a_{t-1})

Axes are [T, B, ..]: T time, B batch.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from agents.world_models.network import Observations, WorldModelNet
from agents.world_models.rssm import Latent
from aime_gym.trajectory import IMAGE

FAR = 10.0  # Deviations from the mean.
TYPICAL = 0.99  # Share of the rows that should be nearer.


@torch.no_grad()
def one_step_errors(
    net: WorldModelNet,
    observations: Observations,
    prev_actions: Tensor,
    scales: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Squared errors of the prior's decoded mean, given the true action, for t >= 1.

    Args:
        net: The world model; it filters with posterior means.
        observations: Sensor -> [T, B, n].
        prev_actions: The true actions a_{t-1} [T, B, A].
        scales: Vector sensor -> deviations [n] of the embodiment data, the errors' unit.

    Returns:
        Visible vector sensor -> [T-1, B, n], in squared deviations.
    """
    embeds = net.embed(observations)
    noise = embeds.new_zeros(*embeds.shape[:2], net.config.stoch_dim)
    deter = net.filter(embeds, noise, prev_actions).latents.deter[1:]
    expected = net.read(Latent(deter, net.cell.prior(deter).mean).feature)
    return {
        name: ((expected[name] - observations[name][1:]) / scales[name]).square()
        for name in net.info.visible
    }


def warn_if_far(net: WorldModelNet, columns: Mapping[str, Tensor], whose: str) -> None:
    """Warns of sensors that lie far outside what a standardised world model has seen.

    Args:
        net: The world model.
        columns: Sensor -> rows [rows, n].
        whose: Name of the data.
    """
    for name in net.deviations:
        if name == IMAGE or name not in columns:
            continue
        distances = net.standardize(name, columns[name]).abs().amax(dim=-1)
        typical = float(distances.kthvalue(max(1, round(TYPICAL * len(distances)))).values)
        if typical > FAR:
            warnings.warn(
                f"Sensor {name!r} of {whose!r} lies up to {typical:.0f} standard deviations from "
                "what the world model has learned from: it will hardly explain these data.",
                stacklevel=2,
            )
