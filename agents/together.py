"""Several AIME agents that learn in one batch, through one frozen world model.

Agents with other seeds or other demonstrations have the same world model, and what they filter with
it can be one batch: on a GPU, whose time goes into starting small products, several cost little
more than one. Each policy has its own weights, gradient norm, optimiser and random numbers, so each
agent becomes what it would have become alone, up to rounding.

Axes are [T, P B, ..]: T time, P agents, B batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from agents.action_inference import (
    FeaturePolicies,
    Windows,
    WindowStart,
    filter_demonstrations,
    infer,
    inference_loss,
    regression_loss,
)
from agents.aime import AIMEAgent
from agents.base import MaybeCallback
from agents.running import Metrics
from agents.world_models.rssm import Latent
from aime_gym.datasets import Dataset

ENDED = object()


def learn_together(
    agents: Sequence[AIMEAgent],
    demonstrations: Dataset | Sequence[Dataset],
    total_timesteps: int | None = None,
    callbacks: Sequence[MaybeCallback] | None = None,
    log_interval: int = 100,
    tb_log_name: str | None = None,
    reset_num_timesteps: bool = True,
    progress_bar: bool = False,
) -> None:
    """Trains several AIME agents in one batch, each as its own `learn` would, up to rounding.

    Agents may have other seeds, and other tasks of one body. They are ordinary agents before and
    after.

    Args:
        agents: With equal settings, world models and devices.
        demonstrations: What all learn from, or one dataset for each.
        total_timesteps: Updates to make; None for the agents' default.
        callbacks: Stable-Baselines3 callbacks for each agent; one that ends its agent's learning
            leaves the others to go on.
        log_interval: Updates between logged values, which are means over these.
        tb_log_name: Name of the runs in TensorBoard; None for the class name.
        reset_num_timesteps: False goes on counting, with `total_timesteps` more updates.
        progress_bar: Show one for all.

    Raises:
        TypeError: One is no AIME agent, or there is no dataset.
        ValueError: Agents or datasets do not go together; the message says what would.

    Example:
        >>> agents = [AIMEAgent(env, "walker-mix-mdp", seed=s) for s in range(4)]  # doctest: +SKIP
        >>> learn_together(agents, demonstrations)  # doctest: +SKIP
    """
    agents = list(agents)
    if isinstance(demonstrations, Dataset):
        demonstrations = [demonstrations] * len(agents)
    datasets = list(demonstrations)
    all_callbacks = [None] * len(agents) if callbacks is None else list(callbacks)
    _check(agents, datasets, all_callbacks, reset_num_timesteps)
    loops = [
        agent.updates(
            data,
            total_timesteps,
            callback,
            log_interval,
            tb_log_name,
            reset_num_timesteps,
            progress_bar and agent is agents[0],
        )
        for agent, data, callback in zip(agents, datasets, all_callbacks, strict=True)
    ]
    while due := [n for n, loop in enumerate(loops) if next(loop, ENDED) is not ENDED]:
        for number, metrics in zip(due, _update([agents[n] for n in due]), strict=True):
            loops[number].send(metrics)


def _check(
    agents: Sequence[AIMEAgent],
    datasets: Sequence[Dataset],
    callbacks: Sequence[MaybeCallback],
    reset: bool,
) -> None:
    for agent in agents:
        if not isinstance(agent, AIMEAgent):
            raise TypeError(f"learn_together takes AIME agents, not {type(agent).__name__}.")
    if not agents or len({*map(id, agents)}) < len(agents):
        raise ValueError("learn_together takes one or more agents, no two of them the same object.")
    for what, given in {"dataset": datasets, "callback": callbacks}.items():
        if len(given) != len(agents):
            raise ValueError(
                f"learn_together takes a {what} for each agent, or one dataset for all; there are "
                f"{len(agents)} agents, and {what}s: {len(given)}."
            )
    first = agents[0]
    if first.config.finetune:
        raise ValueError(
            "Agents that train their world models along cannot share one: learn_together needs "
            "finetune=False."
        )
    for agent in agents[1:]:
        different = [
            what
            for what, same in {
                "settings": agent.config == first.config,
                "world models": _same_model(agent, first),
                "devices": agent.device == first.device,
                "numbers of updates": reset or agent.progress == first.progress,
            }.items()
            if not same
        ]
        if different:
            raise ValueError(
                f"Agents that learn together are alike but for seed, task and demonstrations; "
                f"those given have different {' and '.join(different)}."
            )
    hidden = first.env_info.hidden.keys()
    seen = [hidden & data.sensor_shapes.keys() for data in datasets if isinstance(data, Dataset)]
    if any(sensors != seen[0] for sensors in seen):
        raise ValueError(
            "Demonstrations of agents that learn together have the same sensors; of "
            f"{', '.join(sorted(hidden))}, those given have "
            f"{'; '.join(', '.join(sorted(sensors)) or 'none' for sensors in seen)}."
        )


def _same_model(agent: AIMEAgent, other: AIMEAgent) -> bool:
    own, others = agent.world_model, other.world_model
    if own.config != others.config or agent.device != other.device:
        return False
    weights = others.state_dict()
    return agent.env_info.visible == other.env_info.visible and all(
        name in weights and torch.equal(weight, weights[name])
        for name, weight in own.state_dict().items()
    )


def _update(agents: Sequence[AIMEAgent]) -> list[Metrics]:
    """One update of every agent; returns the metrics of each."""
    if len(agents) == 1:
        return [agents[0]._update()]
    metrics = _infer(agents) if agents[0].started else _imitate_inverse_dynamics(agents)
    for agent in agents:
        agent.progress.updates += 1
    return metrics


def _imitate_inverse_dynamics(agents: Sequence[AIMEAgent]) -> list[Metrics]:
    """One update of the start."""
    inputs, actions = (
        torch.stack(parts) for parts in zip(*(a.draw_explained() for a in agents), strict=True)
    )
    means = FeaturePolicies([agent.policy for agent in agents]).means(inputs)
    losses = regression_loss(means, actions)
    _learn_from(agents, losses.sum())
    return [{"start_loss": loss} for loss in losses.detach().unbind()]


def _infer(agents: Sequence[AIMEAgent]) -> list[Metrics]:
    """One update of the evidence."""
    _refresh(agents)
    windows = [agent.draw_windows() for agent in agents]
    model, terms = agents[0].world_model, agents[0].terms
    policies = FeaturePolicies([agent.policy for agent in agents])
    inferred = infer(model, policies, _joined(windows), terms)
    found = [
        inference_loss(model, part, own.observations, own.embeds, terms)
        for part, own in zip(_parted(inferred, len(agents)), windows, strict=True)
    ]
    norms = _learn_from(agents, torch.stack([loss for loss, _ in found]).sum())
    return [{**metrics, "grad_norm": norm} for (_, metrics), norm in zip(found, norms, strict=True)]


def _refresh(agents: Sequence[AIMEAgent]) -> None:
    """Filters demonstrations of all agents where that is due, those of like lengths together."""
    due = [agent for agent in agents if agent.refresh_due]
    for lengths in {tuple(agent.replay.lengths) for agent in due}:
        group = [agent for agent in due if tuple(agent.replay.lengths) == lengths]
        filtered = filter_demonstrations(
            group[0].world_model,
            [agent.replay for agent in group],
            FeaturePolicies([agent.policy for agent in group]),
        )
        for agent, rows in zip(group, filtered, strict=True):
            agent.begin_windows_from(rows.states)


def _learn_from(agents: Sequence[AIMEAgent], loss: Tensor) -> list[Tensor]:
    """A step of every optimiser; returns the norms of the policies' gradients before clipping."""
    for agent in agents:
        agent.optimizer.zero_grad()
    loss.backward()
    return [agent.step() for agent in agents]


def _joined(windows: Sequence[Windows]) -> Windows:
    """The windows of P agents as one batch [T, P B, ..]; each knows its own observations."""
    _, *parts, starts = zip(*windows, strict=True)
    embeds, noise_action, noise_state = (torch.cat(tensors, dim=1) for tensors in parts)
    before = None
    if starts[0] is not None:
        states, embed, is_first = zip(*starts, strict=True)
        state = Latent(*map(torch.cat, zip(*states, strict=True)))
        before = WindowStart(state, torch.cat(embed), torch.cat(is_first))
    return Windows({}, embeds, noise_action, noise_state, before)


def _parted(values: Any, parts: int) -> list[Any]:
    """The inverse: nested tensors [T, P B, ..] as those of each agent [T, B, ..]."""
    if values is None:
        return [None] * parts
    if isinstance(values, Tensor):
        return list(values.chunk(parts, dim=1))
    columns = [_parted(value, parts) for value in values]
    return [type(values)(*row) for row in zip(*columns, strict=True)]
