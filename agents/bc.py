"""Behavioural cloning: supervised learning of the demonstrator's actions.

    min over the policy of  mean || policy(o_{t-k+1}, .., o_t) - a_t ||^2

The baseline that sees what AIME does not: the actions. Pomerleau 1989; the protocol is that of
AIME's baselines (Zhang et al. 2023, appendix).
Shapes: B batch, k stacked observations, E embedding, A action.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.actor import Actor
from agents.base import OfflineLearner
from agents.checks import check_at_least, check_positive, check_share
from agents.nets import MLP, MLPConfig
from agents.replay import Batch, make_replay
from agents.running import Metrics
from agents.spaces import EnvInfo, Environment
from agents.supervised import ObservationEncoder, Supervised, default_stack, initial_stack, push
from aime_gym.datasets import Dataset


@dataclass(frozen=True)
class BCConfig:
    """Settings of behavioural cloning; the defaults are the paper's.

    Attributes:
        stack: Observations that the policy sees; None for 1 in the mdp setup, else 5.
        num_demonstrations: The number of demonstrations to use, from the first on.
        batch_size: Windows per update.
        learning_rate: Adam's learning rate.
        train_share: Share of the windows that train; the others validate.
        min_epochs: Epochs before which learning does not stop.
        patience: Epochs in a row without a new best validation loss after which it stops.
        policy: The policy's network.
        image_width: Channels of the image encoder's first convolution.

    Raises:
        ValueError: A number is out of range.
    """

    stack: int | None = None
    num_demonstrations: int = 100
    batch_size: int = 50
    learning_rate: float = 1e-3
    train_share: float = 0.7
    min_epochs: int = 50
    patience: int = 3
    policy: MLPConfig = dataclasses.field(default_factory=MLPConfig)
    image_width: int = 32

    def __post_init__(self) -> None:
        check_at_least(
            1,
            stack=self.stack,
            num_demonstrations=self.num_demonstrations,
            batch_size=self.batch_size,
            patience=self.patience,
            image_width=self.image_width,
        )
        check_at_least(0, min_epochs=self.min_epochs)
        check_positive(learning_rate=self.learning_rate)
        check_share(train_share=self.train_share)


class StackPolicy(nn.Module):
    """The last k observations, each encoded and joined oldest first -> action in -1 .. 1."""

    def __init__(self, info: EnvInfo, stack: int, config: BCConfig) -> None:
        super().__init__()
        self.encoder = ObservationEncoder(info, config.image_width)
        self.net = MLP(stack * self.encoder.embed_dim, info.action_dim, config.policy)

    def forward(self, embeds: Tensor) -> Tensor:
        """[B, k, E] -> actions in -1 .. 1 [B, A]."""
        return torch.tanh(self.net(embeds.flatten(1)))


def cloning_loss(policy: StackPolicy, batch: Batch) -> Tensor:
    """Mean squared error of the actions in windows of k + 1 rows.

    The first k rows are seen; what led to the last one is the action to be taken.
    """
    assert batch.prev_actions is not None
    seen = {name: rows[:-1] for name, rows in batch.observations.items()}  # [k, B, ..]
    predicted = policy(policy.encoder(seen).transpose(0, 1))
    return functional.mse_loss(predicted, batch.prev_actions[-1])


class BCAgent(OfflineLearner, Actor):
    """Clones a demonstrator's actions.

    Args:
        env: An id, environment or VecEnv.
        config: Settings; None for the paper's.
        **common: seed, device, verbose and tensorboard_log, as for every `Learner`.

    Raises:
        TypeError: The environment's actions are discrete.

    Example:
        >>> BCAgent("AIME/walker-run-mdp").learn(demos)  # doctest: +SKIP
    """

    parts: ClassVar[tuple[str, ...]] = ("cloning",)

    def __init__(
        self, env: Environment | EnvInfo, config: BCConfig | None = None, **common: Any
    ) -> None:
        super().__init__(env, **common)
        self.config = config = config or BCConfig()
        self.arguments = {"config": config}
        info = self.env_info
        assert info.box_actions
        self.stack = config.stack or default_stack(info)
        with self.initialization():
            policy = StackPolicy(info, self.stack, config).to(self.device)
        self.cloning = Supervised(
            policy,
            self.generator,
            learning_rate=config.learning_rate,
            batch_size=config.batch_size,
            train_share=config.train_share,
            min_epochs=config.min_epochs,
            patience=config.patience,
        )

    @property
    def policy(self) -> StackPolicy:
        """The policy that acts: the best so far by validation."""
        policy = self.cloning.current
        assert isinstance(policy, StackPolicy)
        return policy

    # Learning

    def _prepare(self, demonstrations: Dataset, reset: bool, progress_bar: bool) -> None:
        self._replay = make_replay(
            demonstrations[: self.config.num_demonstrations],
            self.env_info,
            self.env_info.visible,
            self.stack + 1,
            device=self.device,
            progress_bar=progress_bar,
        )
        self.cloning.begin(self._replay.num_windows(self.stack + 1), reset)

    def _update(self) -> Metrics:
        return self.cloning.update(self._loss)

    def _loss(self, policy: nn.Module, windows: Tensor) -> Tensor:
        assert isinstance(policy, StackPolicy)
        return cloning_loss(policy, self._replay.gather(windows, self.stack + 1))

    def _log(self) -> None:
        epochs = self.cloning.epochs
        self.logger.record("train/epoch", epochs.count)
        if epochs.validation_loss is not None:
            self.logger.record("train/validation_loss", epochs.validation_loss)
        super()._log()

    @property
    def finished(self) -> bool:
        """Whether validation has stopped improving."""
        return self.cloning.finished

    # Acting

    def _initial_state(self, batch: int) -> tuple[Tensor, ...]:
        return initial_stack(batch, self.stack, self.policy.encoder.embed_dim, self.device)

    def _act(
        self, observations: dict[str, Tensor], state: tuple[Tensor, ...], deterministic: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        stacked, state = push(self.policy.encoder(observations), state)
        return self.policy(stacked), state
