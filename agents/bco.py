"""BCO: behavioural cloning from observations, with actions that an inverse model inferred.

    1.  a_{t-1} ~ inverse(o_{t-k}, .., o_t)        learnt from the body's own experience
    2.  min over the policy of  || policy(o_{t-k}, .., o_{t-1}) - inverse(o_{t-k}, .., o_t) ||^2

Torabi et al. 2018, "Behavioral Cloning from Observation", without its interaction after the
demonstrations (BCO(0)); the protocol is that of AIME's baselines (Zhang et al. 2023, appendix).
Shapes: T steps, B batch, k stacked observations, A action.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, ClassVar, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from agents.body_models import (
    BodyModel,
    BodyModelConfig,
    EmbodiedConfig,
    EmbodiedImitator,
    InverseModel,
)
from agents.replay import Batch, alone
from agents.spaces import EnvInfo, Environment
from agents.stacked import StackPolicy, seen
from aime_gym.datasets import Dataset, Trajectory


@dataclass(frozen=True)
class BCOConfig(EmbodiedConfig):
    """Settings of BCO; `paper` is the published protocol."""


class BCOAgent(EmbodiedImitator):
    """Clones the actions that an inverse model finds behind demonstrations.

    Args:
        env: An id, environment or VecEnv.
        embodiment: The body's own experience with its actions, from which `learn` first learns an
            `InverseModel`; or one that has learnt already, or the name or path of its archive.
        config: Settings; None for the defaults.
        **common: seed, device, verbose and tensorboard_log, as for every `Learner`.

    Raises:
        TypeError: The embodiment is none of these, or the environment's actions are discrete.
        ValueError: Inverse model and environment do not fit.

    Example:
        >>> embodiment = aime_gym.load_dataset("walker-mix")  # doctest: +SKIP
        >>> BCOAgent("AIME/walker-run-mdp", embodiment).learn(demos)  # doctest: +SKIP
    """

    body_model_class: ClassVar[type[BodyModel]] = InverseModel

    def __init__(
        self,
        env: Environment | EnvInfo,
        embodiment: Dataset | InverseModel | BodyModelConfig | str | os.PathLike[str],
        config: BCOConfig | None = None,
        **common: Any,
    ) -> None:
        super().__init__(env, embodiment, config or BCOConfig(), **common)

    @property
    def inverse_net(self) -> StackPolicy:
        """The inverse model: k + 1 observations -> the action that led to the last one."""
        assert isinstance(self.body_net, StackPolicy)
        return self.body_net

    def _loss(self, network: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(network, StackPolicy)
        with torch.no_grad():
            inferred = self.inverse_net.of_window(batch.observations)
        return functional.mse_loss(network.of_window(seen(batch)), inferred)

    @overload
    def infer_actions(self, demonstrations: Dataset) -> list[NDArray[np.float32]]: ...

    @overload
    def infer_actions(self, demonstrations: Trajectory) -> NDArray[np.float32]: ...

    @torch.no_grad()
    def infer_actions(
        self, demonstrations: Dataset | Trajectory
    ) -> list[NDArray[np.float32]] | NDArray[np.float32]:
        """The actions behind demonstrations, as the inverse model finds them.

        Before a demonstration's start, its first observation repeats.

        Args:
            demonstrations: A dataset, or one trajectory of one.

        Returns:
            One array [T, A] per demonstration, in a list unless there is one trajectory alone,
            within the action limits; row t led from o_t to o_{t+1}. True actions are never read.
        """
        if isinstance(demonstrations, Trajectory):
            return self.infer_actions(alone(demonstrations, self.env_info))[0]
        replay = self._make_replay(demonstrations.observations_only(), False, False)
        offsets = torch.arange(1 - self.stack, 2, device=self.device)[:, None]
        found = []
        for first, length in zip(replay.firsts.tolist(), replay.lengths, strict=True):
            steps = torch.arange(length - 1, device=self.device)
            rows = first + (steps + offsets).clamp(min=0)  # [k + 1, T]
            windows = {name: column[rows] for name, column in replay.columns.items()}
            actions = self.inverse_net.of_window(windows)
            found.append(self.env_info.from_unit(actions).cpu().numpy())
        return found
