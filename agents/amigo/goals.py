"""Goals: when one is reached, what that is worth, and how hard the next ones should be.

All functions work on tensors of N environments; goals are cells, ``x * H + y``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.amigo.config import AMIGoConfig, Schedule, Variant
from agents.amigo.networks import agent_cell
from aime_gym.envs.minigrid.cells import VISIBLE


def goal_reached(
    reference: Tensor, grid: Tensor, goal: Tensor, over: Tensor, config: AMIGoConfig
) -> Tensor:
    """Whether a step reached the goal.

    With `modify`, it did if the goal's cell differs from what it was when the goal was set, and an
    agent that stands there counts; without, if the agent is there. Grids are those of one episode:
    a new layout never reaches the old goal. Without `boundary_awareness`, a step that ends an
    episode reaches nothing.

    Args:
        reference: The grid when the goal was set [N, 3 C].
        grid: The grid after the step, of the same episode [N, 3 C].
        goal: [N].
        over: Whether the step ended the episode [N].
        config: Has `modify` and `boundary_awareness`.

    Returns:
        [N], bool.
    """
    if config.modify:
        indices = goal[:, None] * VISIBLE + torch.arange(VISIBLE, device=goal.device)
        reached = (reference.gather(1, indices) != grid.gather(1, indices)).any(1)
    else:
        reached = agent_cell(grid) == goal
    return reached if config.boundary_awareness else reached & ~over


def goal_reward(reached: Tensor, steps: Tensor, max_steps: int) -> Tensor:
    """The student's intrinsic reward [N]: reached x (1 - 0.9 steps / max_steps)."""
    return reached * (1 - 0.9 * steps / max_steps)


def student_reward(intrinsic: Tensor, paid: Tensor, coef: float, extrinsic: bool) -> Tensor:
    """The student's reward: intrinsic x coef within [-1, 1], and 1 where the environment paid."""
    clipped = (coef * intrinsic).clamp(-1, 1)
    return clipped + paid.float() if extrinsic else clipped


def teacher_reward(
    reached: Tensor,
    steps: Tensor,
    paid: Tensor,
    target: int,
    variant: Variant,
    config: AMIGoConfig,
) -> Tensor:
    """What goals are worth to the teacher [N].

    A goal that was reached in at least `target` steps (for window_adaptive: in the target and at
    most `window` steps more or less) is worth `reached_reward`, any other one `missed_reward`; on
    top comes `paid_reward` where the environment paid in the step that ended the goal.
    """
    if variant == "window_adaptive":
        hard = (steps - target).abs() <= config.window
    else:
        hard = steps >= target
    worth = torch.where(reached & hard, config.reached_reward, config.missed_reward)
    return worth + config.paid_reward * paid.float()


@dataclass
class Difficulty:
    """How many steps a goal should take.

    Attributes:
        target: t*, steps; 0 before the first learning.
        count: Good batches in a row; for window_adaptive, bad batches less good ones.
    """

    target: int = 0
    count: int = 0

    def update(
        self, mean_reward: float, mean_return: float, variant: Variant, schedule: Schedule,
        config: AMIGoConfig,
    ) -> None:  # fmt: skip
        """Takes in one batch of the teacher.

        By default a batch counts whose mean reward is at least the threshold, and any other one
        sets the count back to 0; after so many counts the target grows by one step. For
        window_adaptive a good batch, or one in which the task is solved, counts down, and any other
        one up; after so many counts in one direction the target moves by one step in it.

        Args:
            mean_reward: Of the batch's goals.
            mean_return: Of the episodes that ended in the batch; 0 where none did.
            variant: Default or window_adaptive.
            schedule: Has `counts`, `first_target` and `max_target`.
            config: Has `threshold` and `solved_return`.
        """
        good = mean_reward >= config.threshold
        if variant == "window_adaptive":
            good = good or mean_return >= config.solved_return
            self.count += -1 if good else 1
        else:
            self.count = self.count + 1 if good else 0
        if abs(self.count) >= schedule.counts:
            moved = self.target + (1 if self.count > 0 else -1)
            self.target = min(max(moved, schedule.first_target), schedule.max_target)
            self.count = 0
