"""What is kept between unrolls: goals for the teacher, visits of an episode, recent episodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

STAGES = 10  # Of learning, whose goals are counted apart.
RECENT = 100  # Episodes.


class Goals(NamedTuple):
    """What became of K goals.

    Attributes:
        reference: The grids for which they were set [K, 3 C].
        goal: The cells [K].
        log_prob: Of the goals, when they were chosen [K].
        steps: How long the student took, or had [K].
        reached: [K], bool.
        paid: Whether the environment paid in the last of the steps [K], bool.
        over: Whether the episode ended with the goal [K], bool.
        returns: Returns of the episodes so far [K].
    """

    reference: Tensor
    goal: Tensor
    log_prob: Tensor
    steps: Tensor
    reached: Tensor
    paid: Tensor
    over: Tensor
    returns: Tensor

    @classmethod
    def joined(cls, parts: list[Goals]) -> Goals:
        """Several as one, in order."""
        return cls(*(torch.cat(columns) for columns in zip(*parts, strict=True)))

    def rows(self, rows: slice) -> Goals:
        """Some of them."""
        return Goals(*(column[rows] for column in self))

    def to(self, device: torch.device | str) -> Goals:
        """The same on a device."""
        return Goals(*(column.to(device) for column in self))

    @property
    def mean_return(self) -> float:
        """Mean return of the episodes that ended with these goals; 0 where none did."""
        return float(self.returns[self.over].mean()) if self.over.any() else 0.0


class GoalBuffer:
    """Goals that the teacher has not learnt from yet, in main memory."""

    def __init__(self) -> None:
        self.goals: Goals | None = None

    def __len__(self) -> int:
        return 0 if self.goals is None else len(self.goals.goal)

    def add(self, goals: Goals) -> None:
        """Puts goals behind the others."""
        goals = goals.to("cpu")
        self.goals = goals if self.goals is None else Goals.joined([self.goals, goals])

    def pop(self, size: int) -> Goals:
        """Takes out the oldest."""
        assert self.goals is not None
        oldest, self.goals = self.goals.rows(slice(size)), self.goals.rows(slice(size, None))
        return oldest

    def state_dict(self) -> dict[str, Tensor]:
        """The goals by column; empty where there are none."""
        return self.goals._asdict() if self.goals is not None and len(self) else {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state_dict`."""
        self.goals = Goals(**state) if state else None


class GoalMap:
    """How often each cell was the goal, in each stage of learning.

    Args:
        cells: Number of cells C.

    Attributes:
        counts: [10, C].
    """

    def __init__(self, cells: int) -> None:
        self.counts = torch.zeros(STAGES, cells, dtype=torch.int64)

    def add(self, goals: Tensor, done: float) -> None:
        """Counts goals [K] at a time when a share of the budget is spent."""
        stage = min(int(done * STAGES), STAGES - 1)
        self.counts[stage] += torch.bincount(goals.cpu(), minlength=self.counts.shape[1])

    def state_dict(self) -> dict[str, Tensor]:
        """The counts."""
        return {"counts": self.counts}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state_dict`."""
        self.counts = state["counts"]


class Visits:
    """Which observations an episode has had, in N environments.

    Args:
        num_envs: N.
        longest: Observations of the longest episode.
        size: Bytes of an observation.
        device: Where the observations are.
    """

    def __init__(self, num_envs: int, longest: int, size: int, device: torch.device) -> None:
        drawn = torch.Generator().manual_seed(0)
        self._factors = torch.randint(-(2**62), 2**62, (size,), generator=drawn).to(device)
        self.keys = torch.zeros(num_envs, longest, dtype=torch.int64, device=device)
        self.counts = torch.zeros(num_envs, dtype=torch.int64, device=device)
        self._rows = torch.arange(num_envs, device=device)

    def start(self, seen: Tensor, rows: Tensor) -> None:
        """Begins episodes [N] with the observations [N, n]."""
        self.keys = self.keys.masked_fill(rows[:, None], 0)
        self.counts = self.counts.masked_fill(rows, 0)
        self.keys[rows, 0] = self._key(seen)[rows]
        self.counts[rows] = 1

    def visit(self, seen: Tensor) -> Tensor:
        """Whether observations [N, n] are new in their episodes [N]; from now on they are not."""
        key = self._key(seen)
        new = (self.keys != key[:, None]).all(1)
        self.keys[self._rows, self.counts] = key
        self.counts = self.counts + 1
        return new

    def _key(self, seen: Tensor) -> Tensor:
        return (seen.long() * self._factors).sum(-1)

    def state_dict(self) -> dict[str, Tensor]:
        """The observations so far."""
        return {"keys": self.keys, "counts": self.counts}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state_dict`."""
        self.keys = state["keys"].to(self.keys.device, copy=True)
        self.counts = state["counts"].to(self.keys.device, copy=True)


def _nothing() -> Tensor:
    return torch.zeros(0)


@dataclass
class Recent:
    """The last 100 episodes of training.

    Attributes:
        returns: What the environment paid in each.
        lengths: Steps of each.
        count: Episodes so far.
    """

    returns: Tensor = field(default_factory=_nothing)
    lengths: Tensor = field(default_factory=_nothing)
    count: int = 0

    def add(self, returns: Tensor, lengths: Tensor) -> None:
        """Takes in episodes that ended."""
        self.returns = torch.cat([self.returns, returns.to(self.returns)])[-RECENT:]
        self.lengths = torch.cat([self.lengths, lengths.to(self.lengths)])[-RECENT:]
        self.count += len(returns)

    def metrics(self) -> dict[str, Any]:
        """Mean return and length, and the share of episodes in which the environment paid."""
        if not len(self.returns):
            return dict.fromkeys(("mean_return", "episode_length", "solved"), torch.zeros(()))
        return {
            "mean_return": self.returns.mean(),
            "episode_length": self.lengths.mean(),
            "solved": (self.returns > 0).float().mean(),
        }


@dataclass
class Latest:
    """The last values of the teacher's metrics, for rounds in which there are none.

    Attributes:
        teacher_return: Mean reward of the last batch of the teacher.
        teacher_entropy: Of its goals, nats.
        goals_reached: Share of the goals of the last round that were reached.
        goal_steps: Mean steps of those.
    """

    teacher_return: float = 0.0
    teacher_entropy: float = 0.0
    goals_reached: float = 0.0
    goal_steps: float = 0.0

    def after(self, ended: Goals | None) -> dict[str, Tensor]:
        """All values, with those of goals that ended in this round."""
        if ended is not None:
            self.goals_reached = float(ended.reached.float().mean())
            if ended.reached.any():
                self.goal_steps = float(ended.steps[ended.reached].float().mean())
        return {name: torch.tensor(value) for name, value in asdict(self).items()}
