"""Phase 1: learning a world model from a body's own experience.

    max over the model of  ELBO = sum_t [ log p(o_t | s_t) - KL(q_t || p_t) ]

Zhang et al. 2023 (AIME), Sec. 3; the networks are in `network`, the losses in `losses`.
Axes are [T, B, ..]: T time, B batch.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from agents.base import OfflineLearner
from agents.captured import Captured, set_learning_rate
from agents.nets import Standardizer
from agents.parts import load_weights
from agents.replay import Replay, make_replay
from agents.running import Metrics
from agents.spaces import EnvInfo, Environment, to_vec_env
from agents.world_models.config import TrainingConfig, WorldModelConfig
from agents.world_models.network import Act, Observations, WorldModelNet
from agents.world_models.one_step import one_step_errors, warn_if_far
from agents.world_models.prediction import Readings, open_loop
from agents.world_models.published import load_published, published_env_id
from agents.world_models.rssm import Latent
from aime_gym.datasets import Dataset, Trajectory

HELD_OUT = "held_out/one_step_error"
HELD_OUT_WINDOWS = 64
IDM = "idm."  # Starts the names of the weights of inverse dynamics.


class WorldModel(OfflineLearner):
    """What a body knows about itself: which observations follow which actions.

    Its three abilities: `filter` states from observations and actions, `imagine` states and
    observations from actions, and evaluate the `elbo` of observations given actions.

    Args:
        env: An id, environment or VecEnv; it gives the sensors and the action limits.
        config: Networks and losses; None for `WorldModelConfig.residual`.
        training: Windows and optimiser; None for the defaults, which suit two cores.
        **common: seed, device, verbose and tensorboard_log, as for every `Learner`.

    Raises:
        TypeError: The environment's actions are discrete.
        ValueError: Its images are not 64x64.

    Example:
        >>> model = WorldModel("AIME/walker-walk-mdp")  # doctest: +SKIP
        >>> model.learn(aime_gym.load_dataset("walker-mix"))  # doctest: +SKIP
    """

    parts: ClassVar[tuple[str, ...]] = ("net", "optimizer")
    default_timesteps: ClassVar[int] = 20_000

    def __init__(
        self,
        env: Environment | EnvInfo,
        config: WorldModelConfig | None = None,
        training: TrainingConfig | None = None,
        **common: Any,
    ) -> None:
        super().__init__(env, **common)
        self.config = config or WorldModelConfig.residual()
        self.training = training or TrainingConfig()
        self.arguments = {"config": self.config, "training": self.training}
        with self.initialization():
            self.net = WorldModelNet(self.env_info, self.config).to(self.device)
        self.optimizer = torch.optim.Adam(
            self.net.parameters(), lr=self.training.learning_rate, fused=True
        )

    # Learning

    def _prepare(self, demonstrations: Dataset, reset: bool, progress_bar: bool) -> None:
        training = self.training
        learned, held_out = hold_out(
            demonstrations, training.held_out_share, training.sequence_length
        )
        self._replay = self._make_replay(learned, progress_bar)
        self._held_out = self._make_replay(held_out, progress_bar) if held_out else None
        columns = self._replay.columns
        self._scales = {
            name: columns[name].std(dim=0).clamp(min=1e-4) for name in self.env_info.visible
        }
        self._standardize(columns, demonstrations.card.name)
        self._burn_ins = [
            rows
            for rows in training.burn_ins
            if rows == 0 or self._replay.num_windows(rows + training.sequence_length)
        ] or [0]
        self._captured = {
            rows: Captured(
                partial(self._learn_from_windows, rows), [self.optimizer], [self.generator]
            )
            for rows in {*self._burn_ins}
        }

    def _make_replay(self, dataset: Dataset, progress_bar: bool) -> Replay:
        return make_replay(
            dataset,
            self.env_info,
            {**self.env_info.visible, **self.env_info.hidden},
            self.training.sequence_length,
            rewards=self.config.reward,
            device=self.device,
            progress_bar=progress_bar,
        )

    def _standardize(self, columns: Mapping[str, Tensor], whose: str) -> None:
        """Takes over means and deviations of the first data that the model learns from."""
        for name, standardizer in self.net.standardizers.items():
            assert isinstance(standardizer, Standardizer)
            if standardizer.fitted:
                continue
            constant = standardizer.fit(columns[name])
            if constant:
                warnings.warn(
                    f"Sensor {name!r} of {whose!r} is constant in dimensions {constant}: these "
                    "are centred alone, not scaled.",
                    stacklevel=5,
                )
        self._standardize_changes(columns)
        warn_if_far(self.net, columns, whose)

    @torch.no_grad()
    def _standardize_changes(self, columns: Mapping[str, Tensor]) -> None:
        """Takes over how much what inverse dynamics sees changes from row to row.

        Embeddings that an encoder makes change while it learns, and stay as they are.
        """
        idm = self.net.idm
        if idm is None or idm.changes is None or idm.changes.fitted or len(self.net.encoders):
            return
        embeds = self.net.embed(columns)
        idm.changes.fit((embeds[1:] - embeds[:-1])[~self._replay.is_first[1:]])

    def _update(self) -> Metrics:
        training = self.training
        set_learning_rate(self.optimizer, training.learning_rate_at(self.num_timesteps))
        update = self._captured[self._burn_ins[self.num_timesteps % len(self._burn_ins)]]
        return update(batch_size=training.batch_size, sequence_length=training.sequence_length)

    def _learn_from_windows(self, burn_in: int, batch_size: int, sequence_length: int) -> Metrics:
        """One whole update, over tensors that stay where they are: see `agents.captured`."""
        training, net = self.training, self.net
        observations, prev_actions, *_ = self._replay.sample(
            batch_size, burn_in + sequence_length, self.generator
        )
        assert prev_actions is not None
        start = None
        if burn_in:
            before = {name: values[:burn_in] for name, values in observations.items()}
            start = Latent(*(part[-1] for part in self.filter(before, prev_actions[:burn_in])))
            observations = {name: values[burn_in:] for name, values in observations.items()}
            prev_actions = prev_actions[burn_in:]
        if training.only_idm:
            loss, metrics = net.inverse_dynamics(observations, prev_actions, start)
        else:
            noise = self.noise(*prev_actions.shape[:2], self.config.stoch_dim)
            loss, metrics = net.loss(observations, prev_actions, noise, start)
        self.optimizer.zero_grad()
        loss.backward()
        metrics["grad_norm"] = nn.utils.clip_grad_norm_(net.parameters(), training.grad_clip)
        self.optimizer.step()
        return metrics

    def _log(self) -> None:
        if self._held_out is not None:
            errors = self.one_step_errors(self._held_out)
            for name, error in errors.items():
                self.logger.record(f"held_out/{name}_one_step_error", error)
            sizes = self.env_info.visible
            mean = sum(errors[name] * sizes[name] for name in sizes) / max(1, sum(sizes.values()))
            self.logger.record(HELD_OUT, mean)
        super()._log()

    def one_step_errors(self, replay: Replay) -> dict[str, float]:
        """The mean one-step error of every visible vector sensor, in squared deviations.

        The windows are always the same, so that a curve shows the model alone. See `one_step`.
        """
        length = self.training.sequence_length
        generator = torch.Generator(self.device).manual_seed(0)
        observations, prev_actions, *_ = replay.sample(HELD_OUT_WINDOWS, length, generator)
        assert prev_actions is not None
        errors = one_step_errors(self.net, observations, prev_actions, self._scales)
        return {name: float(error.mean()) for name, error in errors.items()}

    def start_from(self, pretrained: WorldModel) -> None:
        """Takes over another world model's weights; the optimiser stays new.

        Where inverse dynamics learns alone, it may be of another kind, and then begins anew.

        Raises:
            ValueError: The other model has other sensors or sizes.
        """
        weights = pretrained.net.state_dict()
        new = {n: w for n, w in self.net.state_dict().items() if n.startswith(IDM)}
        known = {n: w for n, w in weights.items() if n.startswith(IDM)}
        if self.training.only_idm and _shapes(known) != _shapes(new):
            weights = {n: w for n, w in weights.items() if n not in known} | new
        load_weights(self.net, weights, "the pretrained world model")

    # The three abilities; axes are [T, B, ..]

    def tensors(self, trajectory: Trajectory) -> tuple[dict[str, Tensor], Tensor]:
        """A trajectory as `filter` and `elbo` take it: one sequence, B = 1.

        Returns:
            Sensor -> [T, 1, n], and the actions that led to them in -1 .. 1 [T, 1, A].
        """
        info = self.env_info
        replay = Replay(info, [*info.names, *info.hidden], device=self.device).add([trajectory])
        observations, prev_actions, *_ = replay.gather(
            torch.zeros(1, dtype=torch.long, device=self.device), len(trajectory)
        )
        assert prev_actions is not None
        return observations, prev_actions

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
    def imagine(
        self, start: Latent, actions: Tensor | Act, horizon: int | None = None
    ) -> tuple[Latent, dict[str, Tensor]]:
        """States and observations that follow a state under actions, with prior means.

        Args:
            start: s_0 [B, ..].
            actions: a_0 .. a_{H-1} in -1 .. 1 [H, B, A], or a function, feature [B, F] -> [B, A].
            horizon: H, where `actions` is a function.

        Returns:
            s_1 .. s_H [H, B, ..], and sensor -> expected [H, B, n]; images [H, B, 3, 64, 64], 0..1.

        Raises:
            ValueError: `actions` is a function, and `horizon` is missing.
        """
        steps = len(actions) if isinstance(actions, Tensor) else horizon
        if steps is None:
            raise ValueError("imagine(start, policy, horizon) needs a horizon with a policy.")
        noise = start.deter.new_zeros(steps, len(start.deter), self.config.stoch_dim)
        latents, _ = self.net.imagine(start, noise, actions)
        return latents, self.net.read(latents.feature)

    def open_loop(self, trajectory: Trajectory, seen: int) -> Readings:
        """What the model predicts of a trajectory, of which it sees the first rows alone.

        Args:
            trajectory: What happened, T rows, with the actions, all of which the model is told.
            seen: Rows that the model filters; it imagines the others.

        Returns:
            Sensor -> [T, n] in its own units, images uint8 [T, 64, 64, 3]: what
            `aime_gym.rendering.prediction_video` shows.

        Raises:
            ValueError: The trajectory has no actions, or lacks a sensor; or it is not longer than
                `seen`, which is at least 1.
        """
        return open_loop(self.net, trajectory, seen)

    @torch.no_grad()
    def elbo(self, observations: Observations, prev_actions: Tensor) -> float:
        """The evidence lower bound of observations given actions, one sample, in nats.

        Sum over t and dimensions, mean over the batch; see `filter` for the arguments.
        """
        embeds = self.net.embed(observations)
        noise = self.acting_noise(*embeds.shape[:2], self.config.stoch_dim)
        filtered = self.net.filter(embeds, noise, prev_actions)
        _, _, metrics = self.net.evidence(filtered, filtered.latents.feature, observations)
        return float(metrics["elbo"])

    # Archives

    @classmethod
    def _load_published(
        cls, folder: Path, env: Environment | None, device: torch.device | str
    ) -> Self:
        vec_env = to_vec_env(published_env_id(folder) if env is None else env)
        net = load_published(folder, EnvInfo.of(vec_env))
        model = cls(net.info, net.config, device=device)
        model.set_env(vec_env)
        model.net.load_state_dict(net.state_dict())
        return model


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in weights.items()}


def hold_out(dataset: Dataset, share: float, length: int) -> tuple[Dataset, Dataset | None]:
    """Trajectories to learn from, and one in so many of at least `length` rows that is held out."""
    stride = round(1 / share) if share > 0 else 0
    long = [index for index, trajectory in enumerate(dataset) if len(trajectory) >= length]
    if not stride or len(long) < 2 * stride:
        return dataset, None
    chosen = {*long[stride - 1 :: stride]}
    learned = [t for index, t in enumerate(dataset) if index not in chosen]
    return Dataset(learned, dataset.card), Dataset(
        [dataset[i] for i in sorted(chosen)], dataset.card
    )


def load_pretrained_model(root: str | os.PathLike[str], device: str = "auto") -> WorldModel:
    """Loads the world model of a published folder; the name AIME's own package gives it."""
    if not (Path(root) / "config.yaml").exists():
        raise FileNotFoundError(f"{root} is no published model: it has no config.yaml.")
    return WorldModel.load(Path(root), device=device)
