"""Several AIME agents that learn in one batch, through one frozen world model.

Agents with other seeds or other demonstrations have the same world model, and what they filter with
it can be one batch: on a GPU, whose time goes into starting small products, several cost little
more than one. Each policy has its own weights, gradient norm, optimiser and random numbers, so each
agent becomes what it would have become alone, up to rounding.

Axes are [T, P B, ..]: T time, P agents, B batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
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
from agents.captured import Captured
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
    batch: _Batch | None = None
    while due := [n for n, loop in enumerate(loops) if next(loop, ENDED) is not ENDED]:
        learning = [agents[n] for n in due]
        if len(learning) == 1:
            found = [learning[0]._update()]
        else:
            if batch is None or batch.agents != learning:
                batch = _Batch(learning)
            found = batch.update()
        for number, metrics in zip(due, found, strict=True):
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


class _Batch:
    """Agents whose updates are computed together; a new one is needed where one has left them.

    Args:
        agents: Two or more, of which each is ready to learn.
    """

    def __init__(self, agents: Sequence[AIMEAgent]) -> None:
        self.agents = list(agents)
        self._policies = FeaturePolicies([agent.policy for agent in agents])
        self._imitation = self._captured(self._imitate_inverse_dynamics, self.agents)
        self._inference = self._captured(self._infer, self.agents)
        self._filterings: dict[tuple[AIMEAgent, ...], Captured] = {}

    def _captured(self, update: Callable[..., Metrics], agents: Sequence[AIMEAgent]) -> Captured:
        return Captured(
            update, [agent.optimizer for agent in agents], [agent.generator for agent in agents]
        )

    def update(self) -> list[Metrics]:
        """One update of every agent; returns the metrics of each."""
        first = self.agents[0]
        self._refresh()
        for agent in self.agents:
            agent.begin_update()
        metrics = self._inference(**first.sizes) if first.started else self._imitation()
        for agent in self.agents:
            agent.end_update()
        values = zip(*(of_all.unbind() for of_all in metrics.values()), strict=True)
        return [dict(zip(metrics, own, strict=True)) for own in values]

    # Updates over tensors that stay where they are, see `agents.captured`; metrics are of all [P].

    def _imitate_inverse_dynamics(self) -> Metrics:
        """One update of the start."""
        drawn = zip(*(agent.draw_explained() for agent in self.agents), strict=True)
        inputs, actions = map(torch.stack, drawn)
        losses = regression_loss(self._policies.means(inputs), actions)
        self._learn_from(losses.sum())
        return {"start_loss": losses.detach()}

    def _infer(self, batch_size: int, sequence_length: int) -> Metrics:
        """One update of the evidence."""
        windows = [agent.draw_windows(batch_size, sequence_length) for agent in self.agents]
        model, terms = self.agents[0].world_model, self.agents[0].terms
        inferred = infer(model, self._policies, _joined(windows), terms)
        losses, found = zip(
            *(
                inference_loss(model, part, own.observations, own.embeds, terms)
                for part, own in zip(_parted(inferred, len(windows)), windows, strict=True)
            ),
            strict=True,
        )
        norms = self._learn_from(torch.stack(losses).sum())
        metrics = {name: torch.stack([own[name] for own in found]) for name in found[0]}
        return {**metrics, "grad_norm": torch.stack(norms)}

    def _learn_from(self, loss: Tensor) -> list[Tensor]:
        """A step of every optimiser; returns the norms of the policies' gradients before clips."""
        for agent in self.agents:
            agent.optimizer.zero_grad()
        loss.backward()
        return [agent.step() for agent in self.agents]

    def _refresh(self) -> None:
        """Filters demonstrations of all agents where due, those of like lengths together."""
        due = [agent for agent in self.agents if agent.refresh_due]
        for lengths in {tuple(agent.replay.lengths) for agent in due}:
            group = tuple(agent for agent in due if tuple(agent.replay.lengths) == lengths)
            for agent in group:
                agent.remember_weights()
            if group not in self._filterings:
                self._filterings[group] = self._captured(partial(_filter, group), group)
            self._filterings[group]()


def _filter(agents: Sequence[AIMEAgent]) -> Metrics:
    """Filters the demonstrations of agents, whose lengths are alike, for the windows to come."""
    filtered = filter_demonstrations(
        agents[0].world_model,
        [agent.replay for agent in agents],
        FeaturePolicies([agent.policy for agent in agents]),
    )
    for agent, rows in zip(agents, filtered, strict=True):
        agent.take_states(rows.states)
    return {}


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
