"""Plan2Explore: looks for what the world model does not know yet.

Sekar et al. 2020, "Planning to Explore via Self-Supervised World Models": an ensemble predicts the
next embedding, and the policy learns, inside the world model, to go where its members disagree.
The environment's reward is not read. What is shared with Dreamer is in
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
from agents.world_models.imagination import Imagined, disagreement
from agents.world_models.pretrained import Pretrained

MEMBERS = 5


@dataclass(frozen=True)
class Plan2ExploreConfig(DreamingConfig):
    """Settings of Plan2Explore: the paper's; `small` learns on a CPU."""


class Plan2ExploreAgent(DreamingAgent):
    """Explores a body's abilities without any reward.

    Args:
        env: An id, environment or VecEnv, whose episodes have a time limit.
        config: Settings; None for the paper's, `Plan2ExploreConfig.small()` for a CPU.
        pretrained: A world model to start from, or its name; None for a new one. (A configuration
            makes an untrained one, for weights that are still to be loaded.)
        **common: seed, device, verbose and tensorboard_log, as for every `Learner`.

    Raises:
        TypeError: The environment's actions are discrete, or `pretrained` is no world model.
        ValueError: World model and environment do not fit, or a new world model would be frozen.

    Example:
        >>> config = Plan2ExploreConfig.small()  # doctest: +SKIP
        >>> Plan2ExploreAgent("AIME/walker-walk-mdp", config).learn(50_000)  # doctest: +SKIP
    """

    def __init__(
        self,
        env: Environment | EnvInfo,
        config: Plan2ExploreConfig | None = None,
        pretrained: Pretrained | None = None,
        **common: Any,
    ) -> None:
        super().__init__(env, config or Plan2ExploreConfig(), pretrained, **common)

    def _adapted(self, network: WorldModelConfig) -> WorldModelConfig:
        members = network.num_ensembles or MEMBERS
        return dataclasses.replace(network, reward=False, num_ensembles=members)

    def _imagined_rewards(self, imagined: Imagined) -> Tensor:
        return disagreement(self.world_model, imagined)
