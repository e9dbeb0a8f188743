"""Dreamer: reinforcement learning inside a world model that is learnt on the way.

Hafner et al. 2020, "Dream to Control: Learning Behaviors by Latent Imagination", with the networks
and constants with which AIME made its data (Zhang et al. 2023). What is imagined, and learnt from
it, is in `agents.world_models.imagination`; collecting and updates are in
`agents.world_models.dreaming`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from agents.spaces import EnvInfo, Environment
from agents.world_models.config import WorldModelConfig
from agents.world_models.dreaming import DreamingAgent
from agents.world_models.dreaming_config import DreamingConfig
from agents.world_models.imagination import Imagined, predicted_rewards
from agents.world_models.pretrained import Pretrained


@dataclass(frozen=True)
class DreamerConfig(DreamingConfig):
    """Settings of Dreamer: the paper's; `small` learns on a CPU."""


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
        >>> DreamerAgent("AIME/cartpole-balance-mdp", config).learn(20_000)  # doctest: +SKIP
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
