"""IIDM: imitation through a forward model, whose error the policy's actions make small.

    1.  o_t ~ forward(o_{t-k}, .., o_{t-1}, a_{t-1})     learnt from the body's own experience
    2.  min over the policy of  || forward(o_{t-k}, .., o_{t-1}, policy(..)) - o_t ||^2

"Imitation by inverting a dynamics model": the actions are not inferred by a model of their own, but
by gradients through the forward one. A baseline of AIME (Zhang et al. 2023, appendix).
Shapes: B batch, k stacked observations, A action.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from agents.body_models import (
    BodyModel,
    BodyModelConfig,
    EmbodiedConfig,
    EmbodiedImitator,
    ForwardModel,
    ForwardNet,
    prediction_loss,
)
from agents.replay import Batch
from agents.spaces import EnvInfo, Environment
from agents.stacked import StackPolicy, seen
from aime_gym.datasets import Dataset


@dataclass(frozen=True)
class IIDMConfig(EmbodiedConfig):
    """Settings of IIDM; `paper` is the published protocol."""


class IIDMAgent(EmbodiedImitator):
    """Takes the actions after which a forward model predicts what demonstrations show.

    Args:
        env: An id, environment or VecEnv.
        embodiment: The body's own experience with its actions, from which `learn` first learns a
            `ForwardModel`; or one that has learnt already, or the name or path of its archive.
        config: Settings; None for the defaults.
        **common: seed, device, verbose and tensorboard_log, as for every `Learner`.

    Raises:
        TypeError: The embodiment is none of these, or the environment's actions are discrete.
        ValueError: Forward model and environment do not fit.

    Example:
        >>> embodiment = aime_gym.load_dataset("walker-mix")  # doctest: +SKIP
        >>> IIDMAgent("AIME/walker-run-mdp", embodiment).learn(demos)  # doctest: +SKIP
    """

    body_model_class: ClassVar[type[BodyModel]] = ForwardModel

    def __init__(
        self,
        env: Environment | EnvInfo,
        embodiment: Dataset | ForwardModel | BodyModelConfig | str | os.PathLike[str],
        config: IIDMConfig | None = None,
        **common: Any,
    ) -> None:
        super().__init__(env, embodiment, config or IIDMConfig(), **common)

    def _loss(self, network: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(network, StackPolicy)
        assert isinstance(self.body_net, ForwardNet)
        return prediction_loss(self.body_net, batch, network.of_window(seen(batch)))
