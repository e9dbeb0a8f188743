"""Phase 1: learning a world model from a body's own experience."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from agents.archive import load_weights
from agents.base import Learner, Metrics
from agents.env_info import EnvInfo, Environment
from agents.layout import SensorLayout
from agents.nets import MLPConfig
from agents.windows import Rows, Windows, fit_dataset
from agents.world_models.catalogue import find_model
from agents.world_models.checkpoints import load_published, published_env_id
from agents.world_models.config import WorldModelConfig
from agents.world_models.rssm import Latent
from agents.world_models.world_model import Observations, WorldModelNet
from aime_gym.datasets import Card, Dataset, Trajectory


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Phase 1; the defaults are the paper's.

    Attributes:
        sequence_length: Rows of a window.
        batch_size: Windows of an update.
        learning_rate: Of Adam.
        grad_clip: Largest norm of the gradient.
        decay_timesteps: Updates over which the learning rate falls, in a straight line, to a
            hundredth; None keeps it constant.
    """

    sequence_length: int = 50
    batch_size: int = 50
    learning_rate: float = 3e-4
    grad_clip: float = 100.0
    decay_timesteps: int | None = None

    def learning_rate_at(self, timestep: int) -> float:
        """The learning rate of the update with this number."""
        if self.decay_timesteps is None:
            return self.learning_rate
        return self.learning_rate * max(0.01, 1 - timestep / self.decay_timesteps)


class WorldModel(Learner):
    """What a body knows about itself: which observations follow which actions.

    Its three abilities: `filter` states from observations and actions, `imagine` states and
    observations from actions, and evaluate the `elbo` of observations given actions.

    Args:
        env: An AIME id, environment or VecEnv; it gives the sensors and the action limits.
        config: Networks and losses; None for those of `WorldModelConfig.for_body`.
        training: Windows and optimiser; None for the paper's.
        layout: The sensors, in another order than the environment's own.
        **common: seed, device, verbose and tensorboard_log, as for every `Learner`.

    Example:
        >>> model = WorldModel("AIME/walker-walk-mdp")  # doctest: +SKIP
        >>> model.learn(aime_gym.load_dataset("walker-mix"))  # doctest: +SKIP
    """

    default_timesteps: ClassVar[int] = 100_000

    def __init__(
        self,
        env: Environment | EnvInfo,
        config: WorldModelConfig | None = None,
        training: TrainingConfig | None = None,
        *,
        layout: SensorLayout | None = None,
        **common: Any,
    ) -> None:
        self._given_config, self._given_layout = config, layout
        self.training = training or TrainingConfig()
        super().__init__(env, **common)

    def _build(self) -> nn.Module:
        config = self._given_config or WorldModelConfig.for_body(self.env_info.body)
        layout = self._given_layout or self.env_info.layout
        if layout != self.env_info.layout:
            raise ValueError(
                f"The world model has {layout}; {self.env_info.env_id} has {self.env_info.layout}."
            )
        self.net = WorldModelNet(layout, config)
        return self.net

    @property
    def config(self) -> WorldModelConfig:
        """Networks and losses."""
        return self.net.config

    def _make_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.net.parameters(), lr=self.training.learning_rate)

    def _prepare(self, dataset: Dataset, progress_bar: bool) -> None:
        length = self.training.sequence_length
        names = [*self.net.layout.visible, *self.net.probes]
        sensors = {name: self.env_info.sensors[name] for name in names}
        dataset = fit_dataset(dataset, self.env_info, sensors, length, True, progress_bar)
        rows = self._rows(dataset)
        if self.config.reward:
            rows.add_rewards(dataset)
        self._windows = Windows(rows, length)

    def _rows(self, dataset: Dataset) -> Rows:
        sensors = [*self.env_info.visible, *self.net.probes]
        rows = Rows(dataset, sensors, actions=True, device=self.device)
        rows.scale_actions(self.env_info)
        return rows

    def _update(self) -> Metrics:
        batch = self._windows.sample(self.training.batch_size, self._generator)
        assert batch.prev_actions is not None
        shape = (*batch.prev_actions.shape[:2], self.config.stoch_dim)
        noise = torch.randn(shape, generator=self._generator, device=self.device)
        loss, metrics = self.net.loss(batch.observations, batch.prev_actions, noise)
        for group in self._optimizer.param_groups:
            group["lr"] = self.training.learning_rate_at(self.num_timesteps)
        self._optimizer.zero_grad()
        loss.backward()
        metrics["grad_norm"] = nn.utils.clip_grad_norm_(
            self.net.parameters(), self.training.grad_clip
        )
        self._optimizer.step()
        return metrics

    def start_from(self, pretrained: WorldModel) -> None:
        """Takes over another world model's weights; the optimiser stays new.

        Raises:
            ValueError: The other model has other sensors or sizes.
        """
        load_weights(self.net, pretrained.net.state_dict(), "the pretrained world model")

    # The three abilities; axes are [T, B, ..]

    def tensors(self, trajectory: Trajectory) -> tuple[dict[str, Tensor], Tensor]:
        """A trajectory as `filter` and `elbo` take it: one sequence, B = 1.

        Returns:
            Sensor -> [T, 1, n], and the actions that led to them in -1 .. 1 [T, 1, A].
        """
        rows = self._rows(Dataset([trajectory], Card("one", self.env_info.body)))
        assert rows.prev_actions is not None
        sensors = {name: column[:, None] for name, column in rows.columns.items()}
        return sensors, rows.prev_actions[:, None]

    @torch.no_grad()
    def filter(self, observations: Observations, prev_actions: Tensor) -> Latent:
        """States from observations and the actions that led to them, with posterior means.

        Args:
            observations: Sensor -> [T, B, n], images uint8 [T, B, 64, 64, 3].
            prev_actions: a_{t-1} in -1 .. 1 [T, B, A]; zero in row 0.

        Returns:
            s_t, [T, B, ..].
        """
        embeds = self.net.embed(observations)
        noise = embeds.new_zeros(*embeds.shape[:2], self.config.stoch_dim)
        return self.net.filter(embeds, noise, prev_actions).latents

    @torch.no_grad()
    def imagine(self, start: Latent, actions: Tensor) -> tuple[Latent, dict[str, Tensor]]:
        """States and observations that follow a state under actions, with prior means.

        Args:
            start: s_0 [B, ..].
            actions: a_0 .. a_{H-1} in -1 .. 1 [H, B, A].

        Returns:
            s_1 .. s_H [H, B, ..], and sensor -> expected [H, B, n]; images [H, B, 3, 64, 64], 0..1.
        """
        noise = actions.new_zeros(*actions.shape[:2], self.config.stoch_dim)
        latents = self.net.imagine(start, actions, noise)
        decoded = self.net.decode(latents.feature)
        return latents, {name: normal.mean for name, normal in decoded.items()}

    @torch.no_grad()
    def elbo(self, observations: Observations, prev_actions: Tensor) -> float:
        """The evidence lower bound of observations given actions, one sample, in nats.

        Sum over t and dimensions, mean over the batch; see `filter` for the arguments.
        """
        embeds = self.net.embed(observations)
        noise = self._noise(*embeds.shape[:2], self.config.stoch_dim)
        filtered = self.net.filter(embeds, noise, prev_actions)
        _, _, metrics = self.net.evidence(filtered, filtered.latents.feature, observations)
        return float(metrics["elbo"])

    # Archives

    def _config(self) -> dict[str, Any]:
        return {
            "config": dataclasses.asdict(self.config),
            "layout": dataclasses.asdict(self.net.layout),
            "training": dataclasses.asdict(self.training),
        }

    @classmethod
    def _from_config(cls, config: dict[str, Any], **common: Any) -> Self:
        layout, model_config = config_from_json(config["layout"], config["config"])
        training = TrainingConfig(**config["training"])
        return cls(common.pop("env"), model_config, training, layout=layout, **common)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        env: Environment | None = None,
        device: torch.device | str = "auto",
    ) -> Self:
        """Loads a world model by name, archive or published folder.

        Args:
            path: A name from `agents.list_models()`, an archive, or a folder with ``config.yaml``
                and ``model.pt``.
            env: An environment to use; None to make the model's own when it is asked for.
            device: Where to put it.

        Raises:
            FileNotFoundError: There is no such model; the message lists what there is.
            ValueError: It is truncated or foreign, or the environment does not fit.
        """
        found = find_model(path)
        if found.is_file():
            return super().load(found, env, device)
        net = load_published(found)
        if env is None:
            env = published_env_id(found)
        model = cls(env, net.config, layout=net.layout, device=device)
        model.net.load_state_dict(net.state_dict())
        return model


def load_pretrained_model(root: str | os.PathLike[str], device: str = "auto") -> WorldModel:
    """Loads the world model of a published folder; the name AIME's own package gives it."""
    if not (Path(root) / "config.yaml").exists():
        raise FileNotFoundError(f"{root} is no published model: it has no config.yaml.")
    return WorldModel.load(f"{os.fspath(root)}{os.sep}", device=device)


def config_from_json(
    layout: Mapping[str, Any], config: Mapping[str, Any]
) -> tuple[SensorLayout, WorldModelConfig]:
    """Plain values -> what `WorldModelNet` takes."""
    nets = {
        key: None if config[key] is None else MLPConfig(**config[key])
        for key in ("encoder", "decoder", "probe")
    }
    return SensorLayout(**layout), WorldModelConfig(**{**config, **nets})
