"""Networks that see the last k observations, and learn from windows of a dataset.

BC, BCO and IIDM (Zhang et al. 2023, appendix) differ in their losses alone:

    BC      || policy(o_{t-k+1}, .., o_t) - a_t ||^2
    BCO     || policy(o_{t-k+1}, .., o_t) - inverse(o_{t-k+1}, .., o_{t+1}) ||^2
    IIDM    || forward(o_{t-k+1}, .., o_t, policy(..)) - o_{t+1} ||^2

A window has k + 1 rows, and is never padded; only when acting does the first observation repeat.
Shapes: B batch, k stacked observations, E embedding, A action.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.actor import Actor
from agents.base import OfflineLearner
from agents.checks import check_at_least
from agents.nets import MLP, ImageEncoder, MLPConfig, Standardizer, scale_images
from agents.replay import Batch, Replay, make_replay
from agents.running import Metrics
from agents.spaces import EnvInfo, Environment
from agents.supervised import EpochConfig, Supervised
from aime_gym.datasets import Dataset
from aime_gym.trajectory import IMAGE, IMAGE_SHAPE


@dataclass(frozen=True)
class StackConfig(EpochConfig):
    """Settings of what sees the last k observations.

    Attributes:
        stack: Observations that the network sees; None for 1 in the mdp setup, else 5.
        image_width: Channels of the image encoder's first convolution.
        standardize: Whether the vector sensors are standardised, with means and deviations of the
            first data that the network learns from.
    """

    stack: int | None = None
    image_width: int = 32
    standardize: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(1, stack=self.stack, image_width=self.image_width)


class ObservationEncoder(nn.Module):
    """Sensor -> [.., n] to embeddings [.., E]: vectors joined in order, images by convolutions.

    Raises:
        ValueError: Images are of another shape than 64 x 64.
    """

    def __init__(self, info: EnvInfo, image_width: int = 32) -> None:
        super().__init__()
        shape = info.observation_space.shape
        if info.image and shape != IMAGE_SHAPE:
            raise ValueError(
                f"A policy sees images of shape {IMAGE_SHAPE}; {info} has {shape}. "
                "gymnasium.wrappers.ResizeObservation resizes."
            )
        self._sensors = info.names
        self.image_net = ImageEncoder(image_width) if info.image else None
        self.embed_dim = 32 * image_width if info.image else sum(info.visible.values())
        self.standardizer = None if info.image else Standardizer(self.embed_dim)

    def fit(self, columns: Mapping[str, Tensor]) -> None:
        """Takes means and deviations of vector sensors [rows, n], once."""
        if self.standardizer is not None and not self.standardizer.fitted:
            self.standardizer.fit(torch.cat([columns[name] for name in self._sensors], dim=-1))

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Sensor -> [.., n] to [.., E]."""
        if self.image_net is not None:
            embeds: Tensor = self.image_net(scale_images(observations[IMAGE]))
            return embeds
        assert self.standardizer is not None
        vectors: Tensor = self.standardizer(
            torch.cat([observations[name] for name in self._sensors], dim=-1)
        )
        return vectors


class StackPolicy(nn.Module):
    """The last k observations, each encoded and joined oldest first -> action in -1 .. 1."""

    def __init__(self, info: EnvInfo, stack: int, net: MLPConfig, image_width: int) -> None:
        super().__init__()
        self.encoder = ObservationEncoder(info, image_width)
        self.net = MLP(stack * self.encoder.embed_dim, info.action_dim, net)

    def forward(self, embeds: Tensor) -> Tensor:
        """[B, k, E] -> actions in -1 .. 1 [B, A]."""
        return torch.tanh(self.net(embeds.flatten(1)))

    def of_window(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Rows of a window, sensor -> [k, B, ..], to actions in -1 .. 1 [B, A]."""
        actions: Tensor = self(self.encoder(observations).transpose(0, 1))
        return actions


class StackLearner(OfflineLearner):
    """Learns one network, `supervised`, from windows of k + 1 rows.

    Args:
        env: An id, environment or VecEnv.
        config: Settings.
        **common: seed, device, verbose and tensorboard_log, as for every `Learner`.

    Attributes:
        stack: k, the observations that the network sees.
    """

    parts: ClassVar[tuple[str, ...]] = ("supervised",)
    supervised: Supervised

    def __init__(self, env: Environment | EnvInfo, config: StackConfig, **common: Any) -> None:
        super().__init__(env, **common)
        self.arguments = {"config": config}
        assert self.env_info.box_actions
        self.stack = config.stack or default_stack(self.env_info)
        self._standardized = config.standardize

    @abstractmethod
    def _loss(self, network: nn.Module, batch: Batch) -> Tensor:
        """The mean loss [] of a network over windows of k + 1 rows."""

    def _make_replay(self, dataset: Dataset, actions: bool, progress_bar: bool) -> Replay:
        return make_replay(
            dataset,
            self.env_info,
            self.env_info.visible,
            self.stack + 1,
            actions=actions,
            device=self.device,
            progress_bar=progress_bar,
        )

    def _begin(self, replay: Replay, reset: bool) -> None:
        """Takes up the data, and their scale where none is known."""
        self._replay = replay
        if self._standardized:
            for network in (self.supervised.network, self.supervised.best):
                encoder = network.encoder
                assert isinstance(encoder, ObservationEncoder)
                encoder.fit(replay.columns)
        self.supervised.begin(replay.num_windows(self.stack + 1), reset)

    def _update(self) -> Metrics:
        return self.supervised.update(
            lambda network, windows: self._loss(
                network, self._replay.gather(windows, self.stack + 1)
            )
        )

    def _log(self) -> None:
        epochs = self.supervised.epochs
        self.logger.record("train/epoch", epochs.count)
        if epochs.validation_loss is not None:
            self.logger.record("train/validation_loss", epochs.validation_loss)
        super()._log()

    @property
    def finished(self) -> bool:
        """Whether validation has stopped improving."""
        return self.supervised.finished


@dataclass(frozen=True)
class ImitatorConfig(StackConfig):
    """Settings of an imitator whose policy sees the last k observations.

    Attributes:
        num_demonstrations: The number of demonstrations to use, from the first on.
        policy: The policy's network.
    """

    num_demonstrations: int = 100
    policy: MLPConfig = dataclasses.field(default_factory=MLPConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(1, num_demonstrations=self.num_demonstrations)


class StackImitator(StackLearner, Actor):
    """An imitator whose policy sees the last k observations.

    Args:
        env: An id, environment or VecEnv.
        config: Settings.
        **common: seed, device, verbose and tensorboard_log, as for every `Learner`.
    """

    reads_actions: ClassVar[bool] = False

    def __init__(self, env: Environment | EnvInfo, config: ImitatorConfig, **common: Any) -> None:
        super().__init__(env, config, **common)
        self.config = config
        with self.initialization():
            policy = StackPolicy(self.env_info, self.stack, config.policy, config.image_width)
        self.supervised = Supervised(policy.to(self.device), self.generator, config)

    def start_from(self, policy: StackPolicy) -> None:
        """Begins with the weights of another policy, and its scale of the sensors.

        Raises:
            ValueError: Its network is another.
        """
        try:
            for network in (self.supervised.network, self.supervised.best):
                network.load_state_dict(policy.state_dict())
        except RuntimeError as error:
            raise ValueError(
                f"A {type(self).__name__} cannot start from a policy with another network: {error}"
            ) from error

    @property
    def policy(self) -> StackPolicy:
        """The policy that acts: the best so far by validation."""
        policy = self.supervised.current
        assert isinstance(policy, StackPolicy)
        return policy

    def _prepare(self, demonstrations: Dataset, reset: bool, progress_bar: bool) -> None:
        chosen = demonstrations[: self.config.num_demonstrations]
        if not self.reads_actions:
            chosen = chosen.observations_only()
        self._begin(self._make_replay(chosen, self.reads_actions, progress_bar), reset)

    def _initial_state(self, batch: int) -> tuple[Tensor, ...]:
        return initial_stack(batch, self.stack, self.policy.encoder.embed_dim, self.device)

    def _act(
        self, observations: dict[str, Tensor], state: tuple[Tensor, ...], deterministic: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        stacked, state = push(self.policy.encoder(observations), state)
        return self.policy(stacked), state


def cloning_loss(policy: StackPolicy, batch: Batch) -> Tensor:
    """Mean squared error of the actions in windows of k + 1 rows.

    The first k rows are seen; what led to the last one is the action to be taken.
    """
    assert batch.prev_actions is not None
    return functional.mse_loss(policy.of_window(seen(batch)), batch.prev_actions[-1])


def seen(batch: Batch) -> dict[str, Tensor]:
    """What a policy sees of windows: all rows but the last, sensor -> [k, B, ..]."""
    return {name: rows[:-1] for name, rows in batch.observations.items()}


def default_stack(info: EnvInfo) -> int:
    """Observations that suffice to act: one where velocities are seen, else five, as in AIME."""
    return 1 if info.setup == "mdp" else 5


def initial_stack(
    batch: int, stack: int, embed_dim: int, device: torch.device
) -> tuple[Tensor, ...]:
    """The state of `push` at an episode's start; empty for a stack of one."""
    if stack == 1:
        return ()
    zeros = torch.zeros(batch, stack, embed_dim, device=device)
    return zeros, torch.zeros(batch, 1, dtype=torch.bool, device=device)


def push(embed: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Adds an embedding [B, E] to a stack, oldest first; the first one is repeated.

    Returns:
        The stack [B, k, E], and the next state.
    """
    if not state:
        return embed[:, None], ()
    stacked, started = state
    newest = embed[:, None]
    later = torch.cat([stacked[:, 1:], newest], dim=1)
    stacked = torch.where(started[..., None], later, newest.expand_as(stacked))
    return stacked, (stacked, torch.ones_like(started))
