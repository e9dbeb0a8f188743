"""Settings of AMIGo, and what its variants and the budget make of them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from agents.checks import check_at_least, check_numbers, check_positive, check_share

Variant = Literal["default", "window_adaptive", "novelty_based", "none"]
VARIANTS: tuple[Variant, ...] = ("default", "window_adaptive", "novelty_based", "none")
WITH_TEACHER = ("default", "window_adaptive")
OFFICIAL_BUDGET = 30_000_000  # Frames for which the paper's counts and teacher's batch are meant.
FEWEST_COUNTS, SMALLEST_TEACHER_BATCH = 2, 32
OF_GOALS = (  # Options that do nothing without a teacher.
    "modify", "boundary_awareness", "restart_at_goal", "inner_goals", "teacher_learning_rate",
    "teacher_batch_size", "teacher_entropy_cost", "reached_reward", "missed_reward",
    "paid_reward", "threshold", "counts", "first_target", "max_target",
)  # fmt: skip
OF_WINDOW, OF_NOVELTY = ("window", "solved_return"), ("novelty_learning_rate",)


@dataclass(frozen=True)
class AMIGoConfig:
    """Settings of AMIGo: those of Campero et al. 2021, with a threshold that can be missed.

    Attributes:
        num_envs: Environments that act at once, a multiple of `batch_size`.
        unroll_length: Steps of every environment between two rounds of learning.
        batch_size: Environments whose unrolls make one gradient update.
        discount: Of the student's rewards, per step.
        learning_rate: The student's at the start; it falls linearly to 0 over the budget.
        entropy_cost: Weight of the entropy of the student's policy.
        value_cost: Weight of the squared error of values, student's and teacher's.
        max_grad_norm: Gradients are clipped to this norm.
        lstm: The student has an LSTM of 256.
        num_frames: Frames that the student sees, the current one included.
        use_extrinsic_reward: The student is paid 1 where the environment pays.
        intrinsic_coef: What the intrinsic reward is multiplied by; by default 1, and 0.1 for
            novelty.
        layout_seed: Every episode of training starts from the layout of this seed; by default each
            has a new one.
        modify: A goal is reached when its cell changes; else when the agent is in it.
        boundary_awareness: A goal can be reached in the step that ends an episode.
        restart_at_goal: An episode is broken off when its goal is reached.
        inner_goals: No goals in the outer wall.
        teacher_learning_rate: The teacher's at the start; it falls linearly to 0 over the budget.
        teacher_batch_size: Goals per update of the teacher; by default 150, fewer for budgets of
            less than 30 million frames.
        teacher_entropy_cost: Weight of the entropy of the teacher's goals.
        reached_reward: The teacher's for a goal that took the student long enough.
        missed_reward: The teacher's for any other goal.
        paid_reward: The teacher's on top where the environment paid.
        threshold: Mean reward of a teacher's batch from which on it counts as good.
        counts: Counts after which the target moves by one step; by default 10, fewer for budgets of
            less than 30 million frames.
        first_target: The target t* at the start, steps; by default 7, and 20 for window_adaptive.
        max_target: The largest target, steps; by default 100, and 270 for window_adaptive.
        window: For window_adaptive: how far from the target the steps may be.
        solved_return: For window_adaptive: a batch whose episodes have this mean return counts as
            good whatever the teacher's reward.
        novelty_learning_rate: For novelty_based: the predictor's at the start; it falls linearly to
            0 over the budget.

    Raises:
        ValueError: A number is out of its range, or the batch does not divide the environments.
    """

    num_envs: int = 32
    unroll_length: int = 100
    batch_size: int = 8
    discount: float = 0.99
    learning_rate: float = 1e-3
    entropy_cost: float = 5e-4
    value_cost: float = 0.5
    max_grad_norm: float = 40.0
    lstm: bool = False
    num_frames: int = 1
    use_extrinsic_reward: bool = True
    intrinsic_coef: float | None = None
    layout_seed: int | None = None
    modify: bool = True
    boundary_awareness: bool = True
    restart_at_goal: bool = False
    inner_goals: bool = False
    teacher_learning_rate: float = 2e-3
    teacher_batch_size: int | None = None
    teacher_entropy_cost: float = 0.05
    reached_reward: float = 0.7
    missed_reward: float = -0.3
    paid_reward: float = 1.0
    threshold: float = -0.1
    counts: int | None = None
    first_target: int | None = None
    max_target: int | None = None
    window: int = 50
    solved_return: float = 0.8
    novelty_learning_rate: float = 1e-4

    def __post_init__(self) -> None:
        check_numbers(self)
        counted = [
            "num_envs", "unroll_length", "batch_size", "num_frames", "teacher_batch_size",
            "counts", "first_target", "max_target",
        ]  # fmt: skip
        check_at_least(1, **{name: getattr(self, name) for name in counted})
        rates = [field.name for field in fields(self) if field.name.endswith("learning_rate")]
        check_positive(**{name: getattr(self, name) for name in (*rates, "max_grad_norm")})
        costs = [field.name for field in fields(self) if field.name.endswith("_cost")]
        check_at_least(0, **{name: getattr(self, name) for name in (*costs, "window")})
        check_at_least(0, intrinsic_coef=self.intrinsic_coef, layout_seed=self.layout_seed)
        check_share(discount=self.discount)
        if self.num_envs % self.batch_size:
            raise ValueError(
                f"batch_size divides num_envs, since every update learns from the unrolls of "
                f"batch_size environments; got {self.batch_size} and {self.num_envs}."
            )


def check_variant(variant: str, config: AMIGoConfig) -> Variant:
    """The variant, if there is one, and the settings do something in it.

    Raises:
        ValueError: There is no such variant, or a setting that is not the default does nothing.
    """
    found = [name for name in VARIANTS if name == variant]
    if not found:
        raise ValueError(f"There is no variant {variant!r}: there are {', '.join(VARIANTS)}.")
    idle = [
        *([] if variant in WITH_TEACHER else OF_GOALS),
        *([] if variant == "window_adaptive" else OF_WINDOW),
        *([] if variant == "novelty_based" else OF_NOVELTY),
        *(["intrinsic_coef"] if variant == "none" else []),
    ]
    chosen = [name for name in idle if getattr(config, name) != getattr(AMIGoConfig(), name)]
    if chosen:
        raise ValueError(
            f"The variant {variant} has nothing that {', '.join(chosen)} would change: leave it "
            "out, or choose another variant."
        )
    return found[0]


@dataclass(frozen=True)
class Schedule:
    """What follows from a variant and from the budget.

    Attributes:
        budget: Frames of learning in all.
        teacher_batch_size: Goals per update of the teacher.
        counts: Counts after which the target moves.
        first_target: The target at the start, and for window_adaptive the smallest, steps.
        max_target: The largest target, steps.
        intrinsic_coef: What the intrinsic reward is multiplied by.
    """

    budget: int
    teacher_batch_size: int
    counts: int
    first_target: int
    max_target: int
    intrinsic_coef: float

    @classmethod
    def of(cls, config: AMIGoConfig, variant: Variant, budget: int) -> Schedule:
        """Fills in what the configuration leaves to the variant and the budget."""
        share = min(1.0, budget / OFFICIAL_BUDGET)
        adaptive = variant == "window_adaptive"
        batch = config.teacher_batch_size or max(SMALLEST_TEACHER_BATCH, round(150 * share))
        defaults = {
            "teacher_batch_size": batch,
            "counts": max(FEWEST_COUNTS, round(10 * 150 * share / batch)),
            "first_target": 20 if adaptive else 7,
            "max_target": 270 if adaptive else 100,
            "intrinsic_coef": 0.1 if variant == "novelty_based" else 1.0,
        }
        chosen = {name: getattr(config, name) for name in defaults}
        filled = {name: defaults[name] if v is None else v for name, v in chosen.items()}
        return cls(budget=budget, **filled)  # type: ignore[arg-type]

    def remaining(self, frames: int) -> float:
        """The share of the budget that is left after so many frames: 1 to 0."""
        return max(0.0, 1 - frames / self.budget)
