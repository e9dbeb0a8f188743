"""Dreamer: reinforcement learning inside a world model that is learnt on the way.

Hafner et al. 2020, "Dream to Control: Learning Behaviors by Latent Imagination", with the networks
and constants with which AIME made its data (Zhang et al. 2023). What is imagined, and learnt from
it, is in `agents.world_models.imagination`; collecting and updates are in
`agents.world_models.dreaming`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor

from agents.nets import MLPConfig
from agents.spaces import EnvInfo, Environment
from agents.world_models.config import WorldModelConfig
from agents.world_models.dreaming import DreamingAgent
from agents.world_models.dreaming_config import DreamingConfig
from agents.world_models.imagination import Imagined, predicted_rewards
from agents.world_models.pretrained import Pretrained


@dataclass(frozen=True)
class DreamerConfig(DreamingConfig):
    """Settings of Dreamer: the paper's; `small` learns on a CPU."""

    @classmethod
    def small(cls, **changes: Any) -> Self:
        """A preset that learns on a CPU: small networks, short windows, fewer imagined states.

        A third of the policy's gradient is REINFORCE's, policy and value network see features in
        standard deviations, times four, and the reward has a decoder of its own: without these, the
        policy stays too smooth for rewards that are rare and need precision.
        """
        base, network = super().small(), MLPConfig(128, 2, "swish")
        assert base.world_model is not None
        reward_net = MLPConfig(256, 2, "swish", layer_norm=True)
        small: dict[str, Any] = {
            "world_model": dataclasses.replace(base.world_model, reward_net=reward_net),
            "policy": network,
            "value": network,
            "round_updates": 100,
            "exploration_std": 0.3,
            "horizon": 16,
            "imagined_states": 256,
            "entropy_scale": 0.02,
            "reinforce_share": 1 / 3,
            "feature_gain": 4.0,
            "policy_learning_rate": 5e-4,
            "value_learning_rate": 5e-4,
        }
        return dataclasses.replace(base, **{**small, **changes})


class DreamerAgent(DreamingAgent):
    """Learns to act by imagining what its actions lead to, and what that is worth.

    Args:
        env: An id, environment or VecEnv, whose episodes have a time limit.
        config: Settings; None for the paper's, `DreamerConfig.small()` for a CPU.
        pretrained: A world model to start from, or its name; None for a new one. (A configuration
            makes an untrained one, for weights that are still to be loaded.)
        **common: seed, device, verbose and tensorboard_log, as for every `Learner`.

    Raises:
        TypeError: The environment's actions are discrete, or `pretrained` is no world model.
        ValueError: World model and environment do not fit, or a new world model would be frozen.

    Example:
        >>> config = DreamerConfig.small()  # doctest: +SKIP
        >>> DreamerAgent("AIME/cartpole-balance-mdp", config).learn(5_000)  # doctest: +SKIP
    """

    def __init__(
        self,
        env: Environment | EnvInfo,
        config: DreamerConfig | None = None,
        pretrained: Pretrained | None = None,
        **common: Any,
    ) -> None:
        super().__init__(env, config or DreamerConfig(), pretrained, **common)

    def _adapted(self, network: WorldModelConfig) -> WorldModelConfig:
        return dataclasses.replace(network, reward=True)

    def _imagined_rewards(self, imagined: Imagined) -> Tensor:
        return predicted_rewards(self.world_model, imagined)
