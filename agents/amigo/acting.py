"""Acting: N environments step together, and what they saw becomes an unroll.

T steps, N environments, F frames, C cells; time is the first axis of an unroll.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.amigo.buffers import Goals, Recent, Visits
from agents.amigo.config import AMIGoConfig
from agents.amigo.goals import goal_reached, goal_reward
from agents.amigo.networks import Memory, Student, Teacher
from aime_gym.envs.minigrid.vector import GridVectorEnv

ENV, MEMORY, VISITS = "env.", "memory.", "visits."  # In front of names of saved arrays.
MakeEnv = Callable[[], GridVectorEnv]


class Unroll(NamedTuple):
    """T steps of N environments.

    Attributes:
        frames: What was seen before each step, and after the last one [T + 1, N, F, 3 C].
        carried: [T + 1, N, 2].
        goals: [T + 1, N].
        actions: [T, N].
        log_probs: Of the actions, when they were chosen [T, N].
        goal_rewards: For goals that were reached [T, N].
        paid: Whether the environment paid [T, N].
        new: Whether what came was new in its episode [T, N].
        over: Whether the step ended an episode [T, N].
        memory: The student's before the first step [N, 256] each.
    """

    frames: Tensor
    carried: Tensor
    goals: Tensor
    actions: Tensor
    log_probs: Tensor
    goal_rewards: Tensor
    paid: Tensor
    new: Tensor
    over: Tensor
    memory: Memory

    def of(self, rows: slice) -> Unroll:
        """The part of some environments."""
        columns = [column[:, rows] for column in self.columns]
        return Unroll.joined(columns, tuple(part[rows] for part in self.memory))

    @property
    def columns(self) -> tuple[Tensor, ...]:
        """All but the memory, in order."""
        return self[:-1]

    @classmethod
    def joined(cls, columns: Sequence[Tensor], memory: Memory) -> Unroll:
        """The inverse of `columns`."""
        named = dict(zip(cls._fields, columns, strict=False))
        return cls(**named, memory=memory)


def choose(logits: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Samples from logits [N, n], or takes the best without a generator -> choices, log probs."""
    log_probs = logits.log_softmax(-1)
    if generator is None:
        choices = logits.argmax(-1)
    else:
        choices = torch.multinomial(log_probs.exp(), 1, generator=generator).squeeze(-1)
    return choices, log_probs.gather(-1, choices[:, None]).squeeze(-1)


class Actors:
    """N environments, what runs in them, and what their students were told to reach.

    Args:
        config: Settings.
        student: Acts.
        teacher: Sets goals; None where there are none.
        tell_visits: Whether first visits are told from later ones.
        generator: Of the choices of both.
    """

    _TENSORS = (
        "frames", "carried", "goal", "goal_log_prob", "reference", "goal_steps", "returns", "steps"
    )  # fmt: skip

    def __init__(
        self,
        config: AMIGoConfig,
        student: Student,
        teacher: Teacher | None,
        tell_visits: bool,
        generator: torch.Generator,
    ) -> None:
        self.config, self.student, self.teacher = config, student, teacher
        self.tell_visits = tell_visits
        self.generator, self.device = generator, generator.device
        self.recent = Recent()
        self.env: GridVectorEnv | None = None
        self.visits: Visits | None = None
        self._ended: list[Goals] = []
        self._saved: dict[str, Any] = {}

    # Starting, saving and going on

    def prepare(self, make: MakeEnv, seed: int, reset: bool) -> None:
        """Makes the environments where there are none, and starts them or goes on in them."""
        if self.env is not None and not reset:
            return
        self.env = self.env or make()
        if self.tell_visits:
            size = self.env.sensors["carried"].slice.stop
            longest = self.env.max_steps + 1
            self.visits = Visits(self.config.num_envs, longest, size, self.device)
        if self._saved and not reset:
            self._restore(self.env, self._saved)
        else:
            self._begin(self.env, seed)
        self._saved = {}

    def _begin(self, env: GridVectorEnv, seed: int) -> None:
        seen = self._on_device(env.reset(seed=seed)[0])
        count = len(seen)
        grid, self.carried = _split(seen)
        self.frames = grid[:, None].repeat(1, self.config.num_frames, 1)
        self.memory = self.student.initial_memory(count)
        self.goal = torch.zeros(count, dtype=torch.int64, device=self.device)
        self.goal_steps, self.steps = torch.zeros_like(self.goal), torch.zeros_like(self.goal)
        self.goal_log_prob = torch.zeros(count, device=self.device)
        self.returns = torch.zeros(count, dtype=torch.float64, device=self.device)
        self.reference = grid.clone()
        everywhere = torch.ones(count, dtype=torch.bool, device=self.device)
        if self.visits is not None:
            self.visits.start(seen, everywhere)
        with torch.no_grad():
            self._set_goals(everywhere)

    def state_dict(self) -> dict[str, Any]:
        """All that the coming steps depend on; empty before the first."""
        if self.env is None:
            return self._saved
        state = {name: getattr(self, name) for name in self._TENSORS}
        state |= {f"{MEMORY}{index}": part for index, part in enumerate(self.memory)}
        if self.visits is not None:
            state |= {f"{VISITS}{name}": part for name, part in self.visits.state_dict().items()}
        return state | {
            f"{ENV}{name}": torch.from_numpy(values.view(_signed(values.dtype)))
            for name, values in self.env.get_state().items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from there once the environments are made."""
        self._saved = dict(state)

    def _restore(self, env: GridVectorEnv, state: Mapping[str, Tensor]) -> None:
        for name in self._TENSORS:
            setattr(self, name, state[name].to(self.device))
        self.memory = tuple(part.to(self.device) for part in _below(MEMORY, state).values())
        if self.visits is not None:
            self.visits.load_state_dict(_below(VISITS, state))
        saved = {name: values.cpu().numpy() for name, values in _below(ENV, state).items()}
        now = env.get_state()
        env.set_state({name: values.view(now[name].dtype) for name, values in saved.items()})

    # Acting

    def unroll(self, on_step: Callable[[], None]) -> tuple[Unroll, list[Goals]]:
        """Takes `unroll_length` steps in every environment.

        Args:
            on_step: Called after every step.

        Returns:
            The steps, and what became of the goals that were reached or given up in them.
        """
        memory, self._ended = self.memory, []
        rows: list[tuple[Tensor, ...]] = []
        with torch.no_grad():
            for _ in range(self.config.unroll_length):
                before = self.frames, self.carried, self.goal
                rows.append((*before, *self._step()))
                on_step()
        columns = [torch.stack(column) for column in zip(*rows, strict=True)]
        for index, after in enumerate((self.frames, self.carried, self.goal)):
            columns[index] = torch.cat([columns[index], after[None]])
        return Unroll.joined(columns, memory), self._ended

    def _step(self) -> tuple[Tensor, ...]:
        """One step in every environment -> what an unroll has of it."""
        assert self.env is not None
        features = self.student.features(self.frames, self.carried, self.goal)
        features, self.memory = self.student.remember(features, self.memory)
        actions, log_probs = choose(self.student.heads(features)[0], self.generator)
        seen, rewards, terminated, truncated, info = self.env.step(actions.cpu().numpy())
        over, paid = self._on_device(terminated | truncated), self._on_device(rewards > 0)
        last = self._on_device(_last_seen(seen, info))
        self.steps, self.goal_steps = self.steps + 1, self.goal_steps + 1
        self.returns = self.returns + self._on_device(rewards)
        new = ~over if self.visits is None else self.visits.visit(last)
        reached = torch.zeros_like(over)
        if self.teacher is not None:
            grid = _split(last)[0]
            reached = goal_reached(self.reference, grid, self.goal, over, self.config)
        worth = goal_reward(reached, self.goal_steps, self.env.max_steps)
        renewed = reached | over
        self._keep_goals(renewed, reached, paid, over)
        if self.config.restart_at_goal and (broken := reached & ~over).any():
            seen, over = self.env.restart(broken.cpu().numpy()), renewed
        self._see(self._on_device(seen), over)
        self._set_goals(renewed)
        return actions, log_probs, worth, paid, new, over

    def _see(self, seen: Tensor, over: Tensor) -> None:
        """Takes in what is seen now; where an episode is over, the next one begins."""
        grid, self.carried = _split(seen)
        if self.config.num_frames == 1:
            self.frames = grid[:, None]
        else:
            earlier = torch.where(over[:, None, None], grid[:, None], self.frames[:, 1:])
            self.frames = torch.cat([earlier, grid[:, None]], 1)
        if not over.any():
            return
        self.recent.add(self.returns[over], self.steps[over])
        self.memory = tuple(part.masked_fill(over[:, None], 0.0) for part in self.memory)
        self.returns, self.steps = (x.masked_fill(over, 0) for x in (self.returns, self.steps))
        if self.visits is not None:
            self.visits.start(seen, over)

    def _keep_goals(self, renewed: Tensor, reached: Tensor, paid: Tensor, over: Tensor) -> None:
        """Keeps what became of goals, for the teacher to learn from."""
        if self.teacher is None or not renewed.any():
            return
        set_then = self.reference, self.goal, self.goal_log_prob, self.goal_steps
        columns = *set_then, reached, paid, over, self.returns
        self._ended.append(Goals(*(column[renewed] for column in columns)))

    def _set_goals(self, rows: Tensor) -> None:
        """Asks the teacher for new goals [N]."""
        if self.teacher is None or not rows.any():
            return
        grid = self.frames[rows, -1]
        choices, log_probs = choose(self.teacher(grid).logits, self.generator)
        self.goal = self.goal.masked_scatter(rows, choices)
        self.goal_log_prob = self.goal_log_prob.masked_scatter(rows, log_probs)
        self.reference = torch.where(rows[:, None], self.frames[:, -1], self.reference)
        self.goal_steps = self.goal_steps.masked_fill(rows, 0)

    def _on_device(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(self.device)


def _split(seen: Tensor) -> tuple[Tensor, Tensor]:
    """Observations [N, 3 C + 2] -> grids [N, 3 C] and what is carried [N, 2]."""
    return seen[:, :-2], seen[:, -2:]


def _last_seen(seen: NDArray[np.uint8], info: Mapping[str, Any]) -> NDArray[np.uint8]:
    """What came of a step [N, n]: where it ended an episode, the last of that, not the next one."""
    if "final_obs" not in info:
        return seen
    last = seen.copy()
    for index in np.flatnonzero(info["_final_obs"]):
        last[index] = info["final_obs"][index]
    return last


def _below(start: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    names = sorted(name for name in state if name.startswith(start))
    return {name.removeprefix(start): state[name] for name in names}


def _signed(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type under which archives have an array."""
    return np.dtype(np.int64) if dtype == np.uint64 else dtype
