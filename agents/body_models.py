"""What BCO and IIDM learn from a body's own experience, before they see a demonstration.

    inverse model    o_{t-k}, .., o_t -> a_{t-1}                  || inverse(..) - a_{t-1} ||^2
    forward model    o_{t-k}, .., o_{t-1}, a_{t-1} -> o_t         sum over sensors of their MSEs

Both are learnt once per body and setup, and serve all tasks. Torabi et al. 2018, "Behavioral
Cloning from Observation"; Zhang et al. 2023 (AIME), appendix.
Shapes: B batch, k stacked observations, E embedding, A action, n size of a sensor.
"""

from __future__ import annotations

import dataclasses
import os
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.nets import MLP, ImageDecoder, MLPConfig, scale_images
from agents.replay import Batch
from agents.spaces import EnvInfo, Environment
from agents.stacked import (
    ImitatorConfig,
    ObservationEncoder,
    StackConfig,
    StackImitator,
    StackLearner,
    StackPolicy,
    seen,
)
from agents.supervised import Supervised
from aime_gym.datasets import Dataset
from aime_gym.trajectory import IMAGE


@dataclass(frozen=True)
class BodyModelConfig(StackConfig):
    """Settings of an inverse or a forward model; the defaults take minutes on a CPU.

    Attributes:
        net: The network after the encoder.
    """

    batch_size: int = 512
    learning_rate: float = 2e-3
    decay_timesteps: int | None = 10_000
    train_share: float = 0.95
    epoch_updates: int | None = 500
    min_epochs: int = 0
    min_updates: int = 10_000
    net: MLPConfig = dataclasses.field(
        default_factory=lambda: MLPConfig(256, 3, "swish", layer_norm=True)
    )

    @classmethod
    def paper(cls, **changes: Any) -> Self:
        """The published protocol: full epochs of batches of 50, on sensors as they are."""
        published: dict[str, Any] = {
            "batch_size": 50,
            "learning_rate": 1e-3,
            "decay_timesteps": None,
            "train_share": 0.7,
            "epoch_updates": None,
            "min_epochs": 50,
            "min_updates": 5_000,
            "standardize": False,
            "net": MLPConfig(),
        }
        return cls(**{**published, **changes})


class ForwardNet(nn.Module):
    """k observations and the action that follows -> the next observation, sensor by sensor."""

    def __init__(self, info: EnvInfo, stack: int, net: MLPConfig, image_width: int) -> None:
        super().__init__()
        self.encoder = ObservationEncoder(info, image_width)
        inputs = stack * self.encoder.embed_dim + info.action_dim
        self.decoders = nn.ModuleDict()
        if info.image:
            self.decoders[IMAGE] = ImageDecoder(inputs, image_width)
        for name, size in info.visible.items():
            self.decoders[name] = MLP(inputs, size, net)

    def forward(self, observations: Mapping[str, Tensor], actions: Tensor) -> dict[str, Tensor]:
        """Rows, sensor -> [k, B, ..], and actions in -1 .. 1 [B, A] -> sensor -> [B, ..].

        Vector sensors come standardised as the encoder's, images [B, 3, 64, 64] in 0..1.
        """
        embeds = self.encoder(observations).transpose(0, 1).flatten(1)
        inputs = torch.cat([embeds, actions], dim=-1)
        found = {name: decoder(inputs) for name, decoder in self.decoders.items()}
        if IMAGE in found:
            found[IMAGE] = found[IMAGE].mean
        return found

    def targets(self, observations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What predictions are compared with: sensor -> [B, ..]."""
        if IMAGE in self.decoders:
            return {IMAGE: scale_images(observations[IMAGE])}
        sizes = [observations[name].shape[-1] for name in self.decoders]
        joined = self.encoder({name: observations[name] for name in self.decoders})
        return dict(zip(self.decoders, joined.split(sizes, dim=-1), strict=True))


def prediction_loss(net: ForwardNet, batch: Batch, actions: Tensor) -> Tensor:
    """The sum over sensors of the mean squared error of a window's last row.

    Args:
        net: Predicts it.
        batch: Windows of k + 1 rows.
        actions: What leads to the last row, in -1 .. 1 [B, A].
    """
    predicted = net(seen(batch), actions)
    targets = net.targets({name: rows[-1] for name, rows in batch.observations.items()})
    losses = [functional.mse_loss(predicted[name], targets[name]) for name in predicted]
    return torch.stack(losses).sum()


class BodyModel(StackLearner):
    """An inverse or a forward model of a body.

    Args:
        env: An id, environment or VecEnv; it gives the sensors and the action limits.
        config: Settings; None for the defaults, which take minutes on a CPU.
        **common: seed, device, verbose and tensorboard_log, as for every `Learner`.

    Raises:
        TypeError: The environment's actions are discrete.
    """

    default_timesteps: ClassVar[int] = 10_000

    def __init__(
        self, env: Environment | EnvInfo, config: BodyModelConfig | None = None, **common: Any
    ) -> None:
        config = config or BodyModelConfig()
        super().__init__(env, config, **common)
        self.config = config
        with self.initialization():
            network = self._make_network().to(self.device)
        self.supervised = Supervised(network, self.generator, config)

    @abstractmethod
    def _make_network(self) -> nn.Module:
        """The network that learns, from the learner's own configuration."""

    @property
    def network(self) -> nn.Module:
        """The best network so far by validation."""
        return self.supervised.current

    def _prepare(self, demonstrations: Dataset, reset: bool, progress_bar: bool) -> None:
        self._begin(self._make_replay(demonstrations, True, progress_bar), reset)


class InverseModel(BodyModel):
    """Which action led from the observations before to the last one: BCO's first stage.

    Example:
        >>> model = InverseModel("AIME/walker-run-mdp")  # doctest: +SKIP
        >>> model.learn(aime_gym.load_dataset("walker-mix"))  # doctest: +SKIP
    """

    def _make_network(self) -> nn.Module:
        config = self.config
        return StackPolicy(self.env_info, self.stack + 1, config.net, config.image_width)

    def _loss(self, network: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(network, StackPolicy)
        assert batch.prev_actions is not None
        return functional.mse_loss(network.of_window(batch.observations), batch.prev_actions[-1])


class ForwardModel(BodyModel):
    """Which observation follows from those before and an action: IIDM's first stage.

    Example:
        >>> model = ForwardModel("AIME/walker-run-mdp")  # doctest: +SKIP
        >>> model.learn(aime_gym.load_dataset("walker-mix"))  # doctest: +SKIP
    """

    def _make_network(self) -> nn.Module:
        config = self.config
        return ForwardNet(self.env_info, self.stack, config.net, config.image_width)

    def _loss(self, network: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(network, ForwardNet)
        assert batch.prev_actions is not None
        return prediction_loss(network, batch, batch.prev_actions[-1])


# Imitators that learn one first


@dataclass(frozen=True)
class EmbodiedConfig(ImitatorConfig):
    """Settings of an imitator with a model of its body.

    Attributes:
        body_model: Settings of the model, where the imitator learns it itself.
    """

    min_updates: int = 5_000
    body_model: BodyModelConfig = dataclasses.field(default_factory=BodyModelConfig)

    @classmethod
    def paper(cls, **changes: Any) -> Self:
        """The published protocol of both stages, on sensors as they are."""
        return cls(**{"standardize": False, "body_model": BodyModelConfig.paper(), **changes})


@dataclass
class FirstStage:
    """How far the model of the body has come.

    Attributes:
        done: Whether it has been learnt.
    """

    done: bool = False


class EmbodiedImitator(StackImitator):
    """An imitator that learns a model of its body first; its policy takes over the encoder.

    Args:
        env: An id, environment or VecEnv.
        embodiment: The body's own experience, from which `learn` first learns the model; or a model
            that has learnt already, or the name or path of its archive. (A configuration makes an
            untrained one, for weights that are still to be loaded.)
        config: Settings.
        **common: seed, device, verbose and tensorboard_log, as for every `Learner`.

    Raises:
        TypeError: The embodiment is none of these.
        ValueError: Model and environment do not fit.
    """

    parts: ClassVar[tuple[str, ...]] = ("supervised", "body_net", "first_stage")
    body_model_class: ClassVar[type[BodyModel]]

    def __init__(
        self,
        env: Environment | EnvInfo,
        embodiment: Dataset | BodyModel | BodyModelConfig | str | os.PathLike[str],
        config: EmbodiedConfig,
        **common: Any,
    ) -> None:
        if isinstance(embodiment, str | os.PathLike):
            embodiment = self.body_model_class.load(embodiment)
        if isinstance(embodiment, BodyModel):
            config = dataclasses.replace(config, body_model=embodiment.config)
        super().__init__(env, config, **common)
        self.arguments = {"embodiment": config.body_model, "config": config}
        self._experience: Dataset | None = None
        model = self.body_model_class(
            self.env_info, config.body_model, seed=self.seed, device=self.device
        )
        if model.stack != self.stack:
            raise ValueError(
                f"The policy sees {self.stack} observations, its {type(model).__name__} "
                f"{model.stack}: both need the same stack."
            )
        self.body_net = model.network.requires_grad_(False)
        self.first_stage = FirstStage()
        if isinstance(embodiment, self.body_model_class):
            embodiment.env_info.adapted_to(self.env_info, f"The {type(model).__name__}")
            self._take_over(embodiment)
        elif isinstance(embodiment, Dataset):
            self._experience = embodiment
        elif not isinstance(embodiment, BodyModelConfig):
            raise TypeError(
                f"embodiment is a dataset, or a {type(model).__name__} or the name of one, not "
                f"{type(embodiment).__name__}."
            )

    def _take_over(self, model: BodyModel) -> None:
        """Takes over what a model has learnt: its network, and the encoder for the policy."""
        self.body_net.load_state_dict(model.network.state_dict())
        encoder = self.body_net.encoder
        assert isinstance(encoder, ObservationEncoder)
        for policy in (self.supervised.network, self.supervised.best):
            assert isinstance(policy, StackPolicy)
            policy.encoder.load_state_dict(encoder.state_dict())
        self.first_stage.done = True

    def _prepare(self, demonstrations: Dataset, reset: bool, progress_bar: bool) -> None:
        name = self.body_model_class.__name__
        if not self.first_stage.done and self._experience is None:
            raise ValueError(f"There is no {name} yet: make the agent with embodiment data.")
        super()._prepare(demonstrations, reset, progress_bar)
        if not self.first_stage.done:
            assert self._experience is not None
            config = self.config
            assert isinstance(config, EmbodiedConfig)
            model = self.body_model_class(
                self.env_info, config.body_model, seed=self.seed, device=self.device
            )
            self._take_over(model.learn(self._experience, progress_bar=progress_bar))
