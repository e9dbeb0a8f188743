"""AMIGo: a teacher that proposes goals, and a student that learns to explore by reaching them.

Campero et al. 2021, "Learning with AMIGo: Adversarially Motivated Intrinsic Goals". The student is
an IMPALA agent (Espeholt et al. 2018) that sees the whole grid and a goal, a cell that is to
change. The teacher is paid for goals that are reached, but take at least t* steps; t* grows as the
student learns. Of three variants one adapts t* within a window, one replaces the teacher by the
novelty of what is seen (Zhang et al. 2020, BeBold), and one has no intrinsic reward at all.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from agents.actor import Actor
from agents.amigo.acting import Actors, Unroll, choose
from agents.amigo.buffers import GoalBuffer, GoalMap, Goals, Latest
from agents.amigo.config import WITH_TEACHER, AMIGoConfig, Schedule, Variant, check_variant
from agents.amigo.environments import (
    as_full_grid,
    make_actors_env,
    shape_of,
    without_vector_options,
)
from agents.amigo.goals import Difficulty, goal_reached, student_reward, teacher_reward
from agents.amigo.losses import (
    actor_critic_loss,
    novelty_rewards,
    prediction_error,
    prediction_loss,
)
from agents.amigo.networks import Memory, NoveltyNetwork, Student, Teacher
from agents.base import OnlineLearner
from agents.running import DivergedError, Metrics
from agents.spaces import EnvInfo, Environment

SMOOTHING, EPSILON = 0.99, 0.01  # Of RMSprop.
NO_GOAL = -1


class AMIGoAgent(Actor, OnlineLearner):
    """Learns a grid world by reaching goals that it is set, or that none sets.

    One timestep is one step in one environment, a frame. It acts in `config.num_envs` environments
    of its own, in arrays where `aime_gym.envs.minigrid` has their rules.

    Args:
        env: A MiniGrid environment: an id, such as ``"MiniGrid-DoorKey-8x8-v0"``, or what
            `gymnasium.make` made of one.
        variant: ``"default"``; ``"window_adaptive"``; ``"novelty_based"``; or ``"none"``, without
            intrinsic rewards: plain IMPALA.
        config: Settings; None for the paper's.
        grid_shape: Width and height of the grid, for archives; None to look at the environment.
        **common: seed, device, verbose and tensorboard_log, as for every `Learner`.

    Attributes:
        difficulty: t*, and the counts that move it.
        goal_map: How often each cell was a goal, in each tenth of learning.

    Raises:
        ModuleNotFoundError: MiniGrid is not installed.
        TypeError: It is no MiniGrid environment.
        ValueError: There is no such environment or variant, the grid is too large for the networks,
            or a setting does nothing in the variant.

    Example:
        >>> agent = AMIGoAgent("MiniGrid-DoorKey-8x8-v0")  # doctest: +SKIP
        >>> agent.learn(5_000_000).save("amigo.zip")  # doctest: +SKIP
    """

    default_timesteps: ClassVar[int] = 5_000_000

    def __init__(
        self,
        env: Environment | EnvInfo,
        variant: Variant = "default",
        config: AMIGoConfig | None = None,
        grid_shape: tuple[int, int] | None = None,
        **common: Any,
    ) -> None:
        self.config = config or AMIGoConfig()
        self.variant = check_variant(variant, self.config)
        super().__init__(as_full_grid(env), **common)
        self.env_info = without_vector_options(self.env_info)
        self.grid_shape = grid_shape or shape_of(self.get_env())
        self.arguments = {
            "variant": self.variant,
            "config": self.config,
            "grid_shape": self.grid_shape,
        }
        with self.initialization():
            self._make_networks()
        self.difficulty, self.buffer = Difficulty(), GoalBuffer()
        self.goal_map = GoalMap(math.prod(self.grid_shape))
        novel = self.predictor is not None
        self.actors = Actors(self.config, self.student, self.teacher, novel, self.generator)
        self.recent, self.latest = self.actors.recent, Latest()
        self.schedule = Schedule.of(self.config, self.variant, self.default_timesteps)

    def _make_networks(self) -> None:
        config, shape, device = self.config, self.grid_shape, self.device
        goals = self.variant in WITH_TEACHER
        self.student = Student(shape, goals, config.num_frames, config.lstm).to(device)
        self.optimizer = rmsprop(self.student, config.learning_rate)
        self.teacher = Teacher(shape, config.inner_goals).to(device) if goals else None
        self.predictor = self.target = None
        if self.teacher is not None:
            self.teacher_optimizer = rmsprop(self.teacher, config.teacher_learning_rate)
        if self.variant == "novelty_based":
            self.predictor = NoveltyNetwork(shape).to(device)
            self.target = NoveltyNetwork(shape).to(device).requires_grad_(False)
            self.novelty_optimizer = rmsprop(self.predictor, config.novelty_learning_rate)

    @property
    def parts(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the attributes that have state: those of the variant."""
        names = ["student", "optimizer", "actors", "recent"]
        if self.teacher is not None:
            names += ["teacher", "teacher_optimizer", "difficulty", "buffer", "goal_map", "latest"]
        if self.predictor is not None:
            names += ["predictor", "target", "novelty_optimizer"]
        return tuple(names)

    # Learning

    def _learn(self, total_timesteps: int, log_interval: int, reset: bool, bar: tqdm[Any]) -> None:
        """Makes the environments, and the schedule of the budget; then collects and trains."""
        self.schedule = Schedule.of(self.config, self.variant, total_timesteps)
        self.difficulty.target = self.difficulty.target or self.schedule.first_target
        seed = self.seed + self.num_timesteps
        self.actors.prepare(lambda: make_actors_env(self.env_info, self.config), seed, reset)
        super()._learn(total_timesteps, log_interval, reset, bar)

    def _collect(self) -> None:
        self._unroll, self._ended = self.actors.unroll(self._count)

    def _count(self) -> None:
        """Counts the frames of one step in all environments, and tells the callbacks."""
        self.num_timesteps += self.config.num_envs
        self._callbacks.update_locals(locals())
        self.stopped |= not self._callbacks.on_step()

    def _train(self) -> Metrics:
        """Learns from the unroll: the student in batches of environments, then the others."""
        unroll, size = self._unroll, self.config.batch_size
        frames = self.num_timesteps - unroll.actions.numel()
        for optimizer, rate in self._rates():
            optimizer.param_groups[0]["lr"] = rate * self.schedule.remaining(frames)
        intrinsic = self._intrinsic_rewards(unroll)
        coef, extrinsic = self.schedule.intrinsic_coef, self.config.use_extrinsic_reward
        rewards = student_reward(intrinsic, unroll.paid, coef, extrinsic)
        updates = []
        for first in range(0, self.config.num_envs, size):
            rows = slice(first, first + size)
            updates.append(self._update_student(unroll.of(rows), rewards[:, rows]))
            if self.predictor is not None:
                updates[-1] |= self._update_predictor(self.predictor, unroll.of(rows))
        metrics = means(updates) | {"intrinsic_reward": intrinsic.mean(), **self.recent.metrics()}
        return metrics | (self._train_teacher(self.teacher) if self.teacher is not None else {})

    def _rates(self) -> list[tuple[torch.optim.Optimizer, float]]:
        """The optimisers with their learning rates at the start."""
        rates = [(self.optimizer, self.config.learning_rate)]
        if self.teacher is not None:
            rates.append((self.teacher_optimizer, self.config.teacher_learning_rate))
        if self.predictor is not None:
            rates.append((self.novelty_optimizer, self.config.novelty_learning_rate))
        return rates

    def _intrinsic_rewards(self, unroll: Unroll) -> Tensor:
        """For goals, for novelty, or none [T, N]."""
        if self.predictor is None or self.target is None:
            return unroll.goal_rewards
        with torch.no_grad():
            grids = unroll.frames[:, :, -1]
            seen = grids.flatten(0, 1), unroll.carried.flatten(0, 1)
            error = prediction_error(self.predictor(*seen), self.target(*seen))
        return novelty_rewards(error.unflatten(0, grids.shape[:2]), unroll.new, unroll.over)

    def _update_student(self, unroll: Unroll, rewards: Tensor) -> Metrics:
        """One gradient update from the unrolls of a batch of environments."""
        logits, values = evaluate_student(self.student, unroll)
        discounts = self.config.discount * (~unroll.over).float()
        chosen = unroll.actions, unroll.log_probs
        costs = self.config.value_cost, self.config.entropy_cost
        loss, metrics = actor_critic_loss(logits, values, *chosen, rewards, discounts, *costs)
        norm = self._step(self.optimizer, self.student, loss)
        return metrics | {"loss": loss.detach(), "grad_norm": norm}

    def _train_teacher(self, teacher: Teacher) -> Metrics:
        """Learns from the goals that ended, in batches, and moves t*."""
        ended = Goals.joined(self._ended) if self._ended else None
        if ended is not None:
            self.buffer.add(ended)
            self.goal_map.add(ended.goal, 1 - self.schedule.remaining(self.num_timesteps))
        while len(self.buffer) >= self.schedule.teacher_batch_size:
            goals = self.buffer.pop(self.schedule.teacher_batch_size)
            self._update_teacher(teacher, goals.to(self.device))
        return self.latest.after(ended) | {"t_star": torch.tensor(float(self.difficulty.target))}

    def _update_teacher(self, teacher: Teacher, goals: Goals) -> None:
        """One gradient update: the goals are choices of a bandit, with a discount of 0."""
        config, target = self.config, self.difficulty.target
        reached, steps, paid = goals.reached, goals.steps, goals.paid
        rewards = teacher_reward(reached, steps, paid, target, self.variant, config)
        logits, value = teacher(goals.reference)
        loss, metrics = actor_critic_loss(
            logits[None],
            torch.stack([value, torch.zeros_like(value)]),
            goals.goal[None],
            goals.log_prob[None],
            rewards[None],
            torch.zeros_like(rewards[None]),
            config.value_cost,
            config.teacher_entropy_cost,
        )
        self._step(self.teacher_optimizer, teacher, loss)
        mean = float(rewards.mean())
        self.difficulty.update(mean, goals.mean_return, self.variant, self.schedule, config)
        self.latest.teacher_return, self.latest.teacher_entropy = mean, float(metrics["entropy"])

    def _update_predictor(self, predictor: NoveltyNetwork, unroll: Unroll) -> Metrics:
        """One gradient update of what predicts the random network."""
        assert self.target is not None
        grids = unroll.frames[:-1, :, -1]
        seen = grids.flatten(0, 1), unroll.carried[:-1].flatten(0, 1)
        with torch.no_grad():
            target = self.target(*seen).unflatten(0, grids.shape[:2])
        predicted = predictor(*seen).unflatten(0, grids.shape[:2])
        self._step(self.novelty_optimizer, predictor, prediction_loss(predicted, target))
        return {"novelty": prediction_error(predicted.detach(), target).mean()}

    def _step(self, optimizer: torch.optim.Optimizer, network: nn.Module, loss: Tensor) -> Tensor:
        """Makes one update, unless the loss is not finite -> the gradient's norm.

        Raises:
            DivergedError: It is not; the last checkpoint is from before.
        """
        if not torch.isfinite(loss):
            raise DivergedError(
                f"The loss of the {type(network).__name__} is {loss.item()} after "
                f"{self.num_timesteps} frames: learning stops, and the last checkpoint stays as it "
                "is. Lower learning rates may help."
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(network.parameters(), self.config.max_grad_norm)
        optimizer.step()
        return norm.detach()

    # Acting

    def propose(self, observation: Any, deterministic: bool = False) -> Any:
        """The goals that the teacher would set.

        Args:
            observation: One [n] or a batch [B, n], of the environment's space.
            deterministic: The most likely ones.

        Returns:
            Cells, ``x * H + y``: [] or [B].

        Raises:
            ValueError: The variant has no teacher, or the observation has another shape.
        """
        teacher = self.check_teacher()
        batch, single = self._as_batch(observation)
        with torch.no_grad():
            grid = torch.as_tensor(batch, device=self.device)[:, :-2]
            cells = choose(teacher(grid).logits, self._choosing(deterministic))[0].cpu().numpy()
        return cells[0] if single else cells

    def check_teacher(self) -> Teacher:
        """The teacher.

        Raises:
            ValueError: The variant has none.
        """
        if self.teacher is None:
            raise ValueError(
                f"The variant {self.variant} has no teacher, and so no goals; those that have one "
                f"are {' and '.join(WITH_TEACHER)}."
            )
        return self.teacher

    def _initial_state(self, batch: int) -> tuple[Tensor, ...]:
        """Goal [B] and the grid for which it was set [B, 3 C]; earlier frames; memory."""
        size = self.env_info.visible["grid"]
        state: list[Tensor] = []
        if self.teacher is not None:
            state.append(torch.full((batch,), NO_GOAL, device=self.device))
            state.append(torch.zeros(batch, size, dtype=torch.uint8, device=self.device))
        if self.config.num_frames > 1:
            shape = batch, self.config.num_frames, size
            state.append(torch.zeros(shape, dtype=torch.uint8, device=self.device))
        return *state, *self.student.initial_memory(batch)

    def _act(
        self,
        observations: dict[str, Tensor],
        state: tuple[Tensor, ...],
        deterministic: bool,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        grid = observations["grid"].to(torch.uint8)
        carried, rest = observations["carried"], list(state)
        after: list[Tensor] = []
        goal = torch.zeros(len(grid), dtype=torch.int64, device=self.device)
        if self.teacher is not None:
            after = list(
                self._next_goal(self.teacher, grid, rest.pop(0), rest.pop(0), deterministic)
            )
            goal = after[0]
        frames = grid[:, None]
        if self.config.num_frames > 1:
            earlier = rest.pop(0)[:, 1:]
            known = (earlier[:, -1:] > 0).any(-1, keepdim=True)  # No frame is all zeros.
            earlier = torch.where(known, earlier, frames)
            frames = torch.cat([earlier, frames], 1)
            after.append(frames)
        features = self.student.features(frames, carried, goal)
        features, memory = self.student.remember(features, tuple(rest))
        logits, _ = self.student.heads(features)
        return choose(logits, self._choosing(deterministic))[0], (*after, *memory)

    def _next_goal(
        self, teacher: Teacher, grid: Tensor, goal: Tensor, reference: Tensor, deterministic: bool
    ) -> tuple[Tensor, Tensor]:
        """The goal and its grid; new ones where there is none, or where it is reached."""
        none = goal == NO_GOAL
        going_on = torch.zeros_like(none)
        reached = goal_reached(reference, grid, goal.clamp(min=0), going_on, self.config)
        chosen, _ = choose(teacher(grid).logits, self._choosing(deterministic))
        renewed = none | reached
        return torch.where(renewed, chosen, goal), torch.where(renewed[:, None], grid, reference)

    def _choosing(self, deterministic: bool) -> torch.Generator | None:
        return None if deterministic else self.acting_generator


def rmsprop(network: nn.Module, rate: float) -> torch.optim.Optimizer:
    """The optimiser of every network."""
    return torch.optim.RMSprop(network.parameters(), rate, alpha=SMOOTHING, eps=EPSILON)


def means(rows: list[Metrics]) -> Metrics:
    """The means of metrics by name."""
    return {name: torch.stack([row[name] for row in rows]).mean() for name in rows[0]}


def evaluate_student(student: Student, unroll: Unroll) -> tuple[Tensor, Tensor]:
    """What a student makes of an unroll: logits [T, B, 7] and values [T + 1, B].

    A memory begins as the unroll's, and anew where an episode does.
    """
    flat = (part.flatten(0, 1) for part in (unroll.frames, unroll.carried, unroll.goals))
    features = student.features(*flat).unflatten(0, unroll.goals.shape)
    if student.lstm is not None:
        hidden, memory = list[Tensor](), unroll.memory
        starts = torch.cat([torch.zeros_like(unroll.over[:1]), unroll.over])
        for now, start in zip(features, starts, strict=True):
            kept: Memory = tuple(part.masked_fill(start[:, None], 0.0) for part in memory)
            out, memory = student.remember(now, kept)
            hidden.append(out)
        features = torch.stack(hidden)
    logits, values = student.heads(features)
    return logits[:-1], values
