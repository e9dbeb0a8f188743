"""Reptile: a start from which a policy clones a new demonstrator in a few updates.

    phi = theta;  repeat:  phi <- phi - a grad_phi || phi(o_t) - a_t ||^2   on one task
    theta <- theta + b (phi - theta)

Nichol, Achiam and Schulman 2018, "On First-Order Meta-Learning Algorithms", arXiv:1803.02999: no
second derivatives are needed. A task is a demonstrator, such as the expert of one altered body.
Shapes: B batch, k stacked observations, E embedding, A action.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from agents.actor import Actor
from agents.base import OfflineLearner
from agents.checks import check_at_least, check_numbers, check_positive, check_share
from agents.nets import MLPConfig
from agents.replay import Replay, make_replay
from agents.running import Metrics
from agents.spaces import EnvInfo, Environment
from agents.stacked import StackPolicy, cloning_loss, default_stack, initial_stack, push
from aime_gym.datasets import Dataset


@dataclass(frozen=True)
class ReptileConfig:
    """Settings of meta-learning.

    Attributes:
        task_size: Trajectories of one task; the dataset has them one after another.
        inner_updates: Updates on a task.
        batch_size: Windows per update.
        learning_rate: Adam's learning rate on a task, a; its moments start anew with every task.
        meta_rate: How far the start moves towards what a task has led to, b.
        stack: Observations that the policy sees; None for 1 in the mdp setup, else 5.
        policy: The policy's network.

    Raises:
        ValueError: A number is out of range.
    """

    task_size: int = 10
    inner_updates: int = 10
    batch_size: int = 50
    learning_rate: float = 1e-3
    meta_rate: float = 0.2
    stack: int | None = None
    policy: MLPConfig = field(default_factory=MLPConfig)

    def __post_init__(self) -> None:
        check_numbers(self)
        check_at_least(
            1,
            task_size=self.task_size,
            inner_updates=self.inner_updates,
            batch_size=self.batch_size,
            stack=self.stack,
        )
        check_positive(learning_rate=self.learning_rate)
        check_share(meta_rate=self.meta_rate)


class ReptileAgent(OfflineLearner, Actor):
    """Learns a start for behavioural cloning from the demonstrations of many tasks.

    Args:
        env: An id, environment or VecEnv with vector observations.
        config: Settings; None for the defaults.
        **common: seed, device, verbose and tensorboard_log, as for every `Learner`.

    Attributes:
        policy: The start, which `BCAgent.start_from` takes.

    Raises:
        TypeError: Observations are images, or actions are discrete.

    Example:
        >>> start = ReptileAgent("iMuJoCo/hopper").learn(many)  # doctest: +SKIP
    """

    parts: ClassVar[tuple[str, ...]] = ("policy",)
    default_timesteps: ClassVar[int] = 2_000

    def __init__(
        self, env: Environment | EnvInfo, config: ReptileConfig | None = None, **common: Any
    ) -> None:
        super().__init__(env, **common)
        self.config = config = config or ReptileConfig()
        self.arguments = {"config": config}
        assert self.env_info.box_actions
        if self.env_info.image:
            raise TypeError(f"This agent sees vectors; those of {self.env_info} are images.")
        self._stack = config.stack or default_stack(self.env_info)
        with self.initialization():
            self.policy = StackPolicy(self.env_info, self._stack, config.policy, image_width=1)
        self.policy.to(self.device)
        self._tasks: list[Replay] = []

    def _prepare(self, demonstrations: Dataset, reset: bool, progress_bar: bool) -> None:
        size = self.config.task_size
        groups = [demonstrations[i : i + size] for i in range(0, len(demonstrations), size)]
        self._tasks = [self._replay(group, progress_bar) for group in groups]
        columns = [task.columns for task in self._tasks]
        everything = {name: torch.cat([rows[name] for rows in columns]) for name in columns[0]}
        self.policy.encoder.fit(everything)

    def _replay(self, task: Dataset, progress_bar: bool) -> Replay:
        info = self.env_info
        return make_replay(
            task,
            info,
            info.visible,
            self._stack + 1,
            actions=True,
            device=self.device,
            progress_bar=progress_bar,
        )

    def _update(self) -> Metrics:
        """Learns one task, and moves the start towards where that has led."""
        config = self.config
        chosen = torch.randint(
            len(self._tasks), (), generator=self.generator, device=self.generator.device
        )
        task, policy = self._tasks[int(chosen)], copy.deepcopy(self.policy)
        optimizer = torch.optim.Adam(policy.parameters(), lr=config.learning_rate)
        losses: list[Tensor] = []
        for _ in range(config.inner_updates):
            batch = task.sample(config.batch_size, self._stack + 1, self.generator)
            loss = cloning_loss(policy, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        with torch.no_grad():
            for start, end in zip(self.policy.parameters(), policy.parameters(), strict=True):
                start.lerp_(end, config.meta_rate)
        return {"first_loss": losses[0], "loss": losses[-1]}

    def _initial_state(self, batch: int) -> tuple[Tensor, ...]:
        return initial_stack(batch, self._stack, self.policy.encoder.embed_dim, self.device)

    def _act(
        self, observations: dict[str, Tensor], state: tuple[Tensor, ...], deterministic: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        stacked, state = push(self.policy.encoder(observations), state)
        return self.policy(stacked), state
