"""Settings of learning inside a world model, which Dreamer and Plan2Explore share."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

from agents.checks import check_at_least, check_numbers, check_positive, check_share
from agents.nets import MLPConfig
from agents.world_models.config import TrainingConfig, WorldModelConfig


@dataclass(frozen=True)
class DreamingConfig:
    """Settings of learning inside a world model; the defaults are the paper's.

    Attributes:
        random_episodes: Episodes of random actions at the start.
        pretrain_updates: Updates of the world model alone after these.
        round_updates: Updates after every round of episodes.
        exploration_std: Deviation of the noise on actions in -1 .. 1 while collecting.
        horizon: Imagined steps H.
        imagined_states: States of a batch, drawn at random, from which imagination starts; None for
            all.
        discount: What a reward is worth one step later.
        trace: Lambda of the returns: 0 looks one step ahead, 1 as far as imagination does.
        entropy_scale: Weight of the KL of the policy from uniform actions.
        normalize_returns: Whether the policy's returns are divided by their range, smoothed over
            updates, where it is above one; the weight of the KL then means the same in every task.
        reinforce_share: Share of REINFORCE in the policy's gradient; the rest is that of imagined
            returns through the model.
        feature_gain: Policy and value network see features in running standard deviations from
            their mean, times this; None for features as they are.
        policy_learning_rate: Adam's learning rate of the policy.
        value_learning_rate: Adam's learning rate of the value network.
        grad_clip: Largest norm of the gradient of policy and value network, each.
        policy: The policy's networks, one for means and one for standard deviations.
        value: The value network.
        world_model: Networks and losses of the world model; None for those of the paper, with a
            reward decoder or an ensemble as the agent needs it. A pretrained one has its own.
        training: The world model's windows and optimiser; its learning rate stays as it starts.
        frozen: Whether a pretrained world model stays as it is; its reward decoder and its ensemble
            learn in any case.

    Raises:
        ValueError: A number is out of range.
    """

    random_episodes: int = 5
    pretrain_updates: int = 100
    round_updates: int = 100
    exploration_std: float = 0.0
    horizon: int = 15
    imagined_states: int | None = None
    discount: float = 0.99
    trace: float = 0.95
    entropy_scale: float = 1e-4
    normalize_returns: bool = False
    reinforce_share: float = 0.0
    feature_gain: float | None = None
    policy_learning_rate: float = 8e-5
    value_learning_rate: float = 8e-5
    grad_clip: float = 100.0
    policy: MLPConfig = dataclasses.field(default_factory=MLPConfig)
    value: MLPConfig = dataclasses.field(default_factory=MLPConfig)
    world_model: WorldModelConfig | None = None
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig.paper)
    frozen: bool = False

    def __post_init__(self) -> None:
        check_numbers(self)
        check_at_least(
            1,
            random_episodes=self.random_episodes,
            round_updates=self.round_updates,
            imagined_states=self.imagined_states,
        )
        check_at_least(2, horizon=self.horizon)
        check_at_least(
            0,
            pretrain_updates=self.pretrain_updates,
            exploration_std=self.exploration_std,
            entropy_scale=self.entropy_scale,
        )
        check_share(discount=self.discount, trace=self.trace, reinforce_share=self.reinforce_share)
        check_positive(
            policy_learning_rate=self.policy_learning_rate,
            value_learning_rate=self.value_learning_rate,
            feature_gain=self.feature_gain,
            grad_clip=self.grad_clip,
        )

    @classmethod
    def small(cls, **changes: Any) -> Self:
        """A preset that learns on a CPU: small networks, short windows, fewer imagined states."""
        small: dict[str, Any] = {
            "world_model": dataclasses.replace(
                WorldModelConfig.residual().narrow(128), idm="none", free_nats=1.0
            ),
            "training": TrainingConfig(
                sequence_length=20,
                batch_size=16,
                learning_rate=1e-3,
                burn_ins=(0,),
                held_out_share=0.0,
            ),
            "pretrain_updates": 300,
            "round_updates": 60,
            "exploration_std": 0.2,
            "horizon": 12,
            "imagined_states": 128,
            "entropy_scale": 0.01,
            "normalize_returns": True,
            "policy_learning_rate": 1e-3,
            "value_learning_rate": 1e-3,
        }
        return cls(**{**small, **changes})
