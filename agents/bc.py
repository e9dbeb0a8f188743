"""Behavioural cloning: supervised learning of the demonstrator's actions.

    min over the policy of  mean || policy(o_{t-k+1}, .., o_t) - a_t ||^2

The baseline that sees what AIME does not: the actions. Pomerleau 1989; the protocol is that of
AIME's baselines (Zhang et al. 2023, appendix).
Shapes: B batch, k stacked observations, A action.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from agents.replay import Batch
from agents.spaces import EnvInfo, Environment
from agents.stacked import ImitatorConfig, StackImitator, StackPolicy, cloning_loss


@dataclass(frozen=True)
class BCConfig(ImitatorConfig):
    """Settings of behavioural cloning: the paper's, on standardised sensors."""

    @classmethod
    def paper(cls, **changes: Any) -> Self:
        """The published protocol, on sensors as they are."""
        return cls(**{"standardize": False, **changes})


class BCAgent(StackImitator):
    """Clones a demonstrator's actions.

    Args:
        env: An id, environment or VecEnv.
        config: Settings; None for the defaults.
        **common: seed, device, verbose and tensorboard_log, as for every `Learner`.

    Raises:
        TypeError: The environment's actions are discrete.

    Example:
        >>> BCAgent("AIME/walker-run-mdp").learn(demos)  # doctest: +SKIP
    """

    reads_actions: ClassVar[bool] = True

    def __init__(
        self, env: Environment | EnvInfo, config: BCConfig | None = None, **common: Any
    ) -> None:
        super().__init__(env, config or BCConfig(), **common)

    def _loss(self, network: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(network, StackPolicy)
        return cloning_loss(network, batch)
