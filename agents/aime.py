"""AIME: imitation from observations, by inferring the actions that maximise the evidence.

Zhang et al. 2023, "Action Inference by Maximising Evidence: Zero-Shot Imitation from Observation
with World Models", NeurIPS 2023. Phase 1 trains a world model on the body's own experience
(`WorldModel.learn`). Phase 2, here, freezes it and shows it an expert's observations o_1:T. Where
phase 1 knew the actions, a policy now fills them in, and the policy is trained so that the same
evidence lower bound becomes as large as possible:

    a_{t-1} ~ policy(s_{t-1}),   s_t ~ q(s_t | s_{t-1}, a_{t-1}, o_t)
    max over the policy of  sum_t [ log p(o_t | s_t) - KL(q_t || p_t) ]

What it finds are the actions which explain the demonstration, and a policy that takes them.
Axes are [T, B, ..]: T time, B batch, E embedding, A action, S stoch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.action_inference import (
    FILTERED_TOGETHER,
    FeaturePolicy,
    FilteredRows,
    Objective,
    Terms,
    Windows,
    WindowStart,
    action_inference_loss,
    alike,
    filter_demonstrations,
    modes,
    regression_loss,
)
from agents.actor import Actor
from agents.base import OfflineLearner
from agents.captured import Captured, set_learning_rate
from agents.checks import check_at_least, check_numbers, check_positive
from agents.nets import MLPConfig, NormalHead, Standardizer
from agents.parts import load_weights
from agents.replay import Replay, alone, make_replay
from agents.running import Metrics
from agents.spaces import EnvInfo, Environment, to_vec_env
from agents.world_models.acting import filter_and_act, initial_acting_state
from agents.world_models.config import WorldModelConfig
from agents.world_models.one_step import warn_if_far
from agents.world_models.pretrained import Pretrained, copy_pretrained
from agents.world_models.published import load_published, published_env_id, read_state_dict
from agents.world_models.rssm import Latent
from aime_gym.datasets import Dataset, Trajectory

REGRESSION_ROWS = 256  # Per update of the start.
FEATURE_FLOOR = 1e-2  # Features that vary less count as constant.


@dataclass(frozen=True)
class AIMEConfig:
    """Settings of phase 2; the defaults suit two cores, `paper` is the published algorithm.

    Attributes:
        objective: The whole evidence lower bound, or one of its terms.
        guidance: Whether actions come from the model's inverse dynamics, which the policy follows.
        finetune: Whether the world model is trained along with the policy.
        num_demonstrations: The number of demonstrations to use, from the first on.
        sequence_length: Rows of a window.
        batch_size: Windows per update.
        learning_rate: Adam's learning rate.
        decay_timesteps: Updates over which the learning rate falls, in a straight line, to a tenth;
            None keeps it constant.
        grad_clip: Largest norm of the policy's gradient.
        start_updates: Updates, before those of the evidence, in which the policy is regressed onto
            the actions of the model's inverse dynamics.
        start_learning_rate: Adam's learning rate in these.
        action_prior: Weight of the squared differences between the policy's modes and those of the
            model's inverse dynamics, actions in -1..1, which are added to the loss.
        initial_std: Standard deviation beneath the tanh of a new policy's actions; None leaves it
            to the networks, at about 0.7.
        refresh_interval: Updates between filterings of all demonstrations, whose states the windows
            start from; None starts every window from the zero state.
        sample_states: Whether the states of the windows are sampled from the posterior; if not,
            they are its means, which a policy acts on. One that learns on noisy states answers to
            exact ones too weakly.
        see_observation: Whether the policy sees the observation itself, embedded, beside the state,
            which holds it with less precision.
        standardize: Whether the policy's inputs are standardised.
        policy: The policy's networks, one for means and one for standard deviations.
        sample_filter: Whether the posterior is sampled while acting, even if deterministic, as in
            the reference implementation's evaluation.
    """

    objective: Objective = "elbo"
    guidance: bool = False
    finetune: bool = False
    num_demonstrations: int = 100
    sequence_length: int = 50
    batch_size: int = 16
    learning_rate: float = 1e-4
    decay_timesteps: int | None = None
    grad_clip: float = 100.0
    start_updates: int = 4_000
    start_learning_rate: float = 1e-3
    action_prior: float = 24.0
    initial_std: float | None = 0.08
    refresh_interval: int | None = 25
    sample_states: bool = False
    see_observation: bool = True
    standardize: bool = True
    policy: MLPConfig = dataclasses.field(default_factory=MLPConfig)
    sample_filter: bool = False

    def __post_init__(self) -> None:
        check_numbers(self)
        check_at_least(
            1,
            num_demonstrations=self.num_demonstrations,
            sequence_length=self.sequence_length,
            batch_size=self.batch_size,
            decay_timesteps=self.decay_timesteps,
            refresh_interval=self.refresh_interval,
        )
        check_at_least(0, start_updates=self.start_updates, action_prior=self.action_prior)
        check_positive(
            learning_rate=self.learning_rate,
            start_learning_rate=self.start_learning_rate,
            grad_clip=self.grad_clip,
            initial_std=self.initial_std,
        )

    @classmethod
    def paper(cls, **changes: Any) -> AIMEConfig:
        """The published algorithm: the evidence alone, 50 windows, from a fresh policy."""
        published: dict[str, Any] = {
            "batch_size": 50,
            "learning_rate": 3e-4,
            "start_updates": 0,
            "action_prior": 0.0,
            "initial_std": None,
            "refresh_interval": None,
            "sample_states": True,
            "see_observation": False,
            "standardize": False,
        }
        return cls(**{**published, **changes})

    def learning_rate_at(self, update: int) -> float:
        """The learning rate of the evidence update with this number."""
        if self.decay_timesteps is None:
            return self.learning_rate
        return self.learning_rate * max(0.1, 1 - update / self.decay_timesteps)


@dataclass
class Progress:
    """How far learning has come.

    Attributes:
        updates: Updates so far, those of the start included.
    """

    updates: int = 0


class Anchor:
    """Weights as they were when the demonstrations were last filtered for the windows' starts.

    The states of all demonstrations are too large for a checkpoint; from these weights they are
    computed anew, so that a resumed run starts its windows where the whole run did.
    """

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}

    def take(self, networks: nn.Module) -> None:
        """Copies the weights of networks."""
        self.tensors = {name: w.detach().clone() for name, w in networks.state_dict().items()}

    @contextmanager
    def restored(self, networks: nn.Module) -> Iterator[None]:
        """Networks have the copied weights inside the block, and their own after it."""
        own = Anchor()
        own.take(networks)
        networks.load_state_dict(self.tensors)
        try:
            yield
        finally:
            networks.load_state_dict(own.tensors)

    def state_dict(self) -> dict[str, Tensor]:
        """The weights, under flat names."""
        return self.tensors

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state_dict`."""
        self.tensors = dict(state)


class AIMEAgent(OfflineLearner, Actor):
    """Imitates demonstrations with a pretrained world model.

    Args:
        env: An id, environment or VecEnv, of the world model's body and setup.
        world_model: A trained `WorldModel`, or the name of one for `WorldModel.load`. (A
            configuration makes an untrained one, for weights that are still to be loaded.)
        config: Settings; None for the defaults, which suit two cores.
        **common: seed, device, verbose and tensorboard_log, as for every `Learner`.

    Raises:
        TypeError: There is no world model.
        ValueError: World model and environment do not fit, or guidance lacks inverse dynamics.

    Example:
        >>> agent = AIMEAgent("AIME/walker-run-mdp", "walker-mix-mdp")  # doctest: +SKIP
        >>> agent.learn(aime_gym.load_dataset("walker-run-expert"))  # doctest: +SKIP
    """

    parts: ClassVar[tuple[str, ...]] = (
        "world_model", "policy", "optimizer", "progress", "anchor"
    )  # fmt: skip
    default_timesteps: ClassVar[int] = 5_000

    def __init__(
        self,
        env: Environment | EnvInfo,
        world_model: Pretrained,
        config: AIMEConfig | None = None,
        **common: Any,
    ) -> None:
        super().__init__(env, **common)
        self.config = config = config or AIMEConfig()
        with self.initialization():
            model = copy_pretrained(world_model, self.env_info, _without_reward, "world_model")
            self.policy = FeaturePolicy(
                model, config.policy, config.see_observation, config.initial_std
            )
        self.env_info = model.info
        self.arguments = {"world_model": model.config, "config": config}
        needed = {
            "Guidance": config.guidance,
            "start_updates": config.start_updates,
            "An action_prior": config.action_prior,
        }
        for what, wanted in needed.items():
            if wanted and model.idm is None:
                raise ValueError(
                    f"{what} needs a world model with inverse dynamics; this one has none. "
                    "AIMEConfig.paper() does without."
                )
        self.world_model = model.requires_grad_(config.finetune).to(self.device)
        self.policy.to(self.device)
        trained = [*self.policy.parameters(), *(model.parameters() if config.finetune else ())]
        self.optimizer = torch.optim.Adam(trained, lr=config.learning_rate, fused=True)
        self.progress = Progress()
        self.anchor = Anchor()

    # Learning

    def _prepare(self, demonstrations: Dataset, reset: bool, progress_bar: bool) -> None:
        config = self.config
        chosen = demonstrations[: config.num_demonstrations]
        self._replay = self._make_replay(chosen, config.sequence_length, progress_bar)
        warn_if_far(self.world_model, self._replay.columns, demonstrations.card.name)
        if not config.finetune:
            self._replay.embed(self.world_model.embed)
        if reset:
            self.progress = Progress()
        self._explained: tuple[Tensor, Tensor] | None = None  # By inverse dynamics.
        self._states: Latent | None = None  # After all rows, under the policy.
        optimizers, generators = [self.optimizer], [self.generator]
        self._imitation = Captured(self._imitate_inverse_dynamics, optimizers, generators)
        self._inference = Captured(self._infer, optimizers, generators)
        self._filtering = Captured(self._filter, [], generators)
        if config.standardize and not self.policy.standardizer.fitted:
            self.policy.standardizer.fit(self._explanation[0], FEATURE_FLOOR)

    def _make_replay(
        self, demonstrations: Dataset, length: int, progress_bar: bool = False
    ) -> Replay:
        """Checks and gathers what the model observes, and never the actions."""
        info, present = self.env_info, demonstrations.sensor_shapes
        probed = {name: size for name, size in info.hidden.items() if name in present}
        return make_replay(
            demonstrations.observations_only(),
            info,
            {**info.visible, **probed},
            length,
            actions=False,
            device=self.device,
            progress_bar=progress_bar,
        )

    def _update(self) -> Metrics:
        if self.refresh_due:
            self.remember_weights()
            self._filtering()
        self.begin_update()
        metrics = self._inference(**self.sizes) if self.started else self._imitation()
        self.end_update()
        return metrics

    # Updates over tensors that stay where they are: see `agents.captured`

    def _imitate_inverse_dynamics(self) -> Metrics:
        """One update of the start: regression of the policy's modes, on features of all rows."""
        inputs, actions = self.draw_explained()
        loss = regression_loss(self.policy.means(inputs), actions)
        self._learn_from(loss)
        return {"start_loss": loss.detach()}

    def _infer(self, batch_size: int, sequence_length: int) -> Metrics:
        """One update of the evidence: AIME itself."""
        windows = self.draw_windows(batch_size, sequence_length)
        loss, metrics, _ = action_inference_loss(self.world_model, self.policy, windows, self.terms)
        metrics["grad_norm"] = self._learn_from(loss)
        return metrics

    def _filter(self) -> Metrics:
        """Filters all demonstrations for the windows to come."""
        self.take_states(self._filter_all(self._replay, self.policy).states)
        return {}

    def _learn_from(self, loss: Tensor) -> Tensor:
        """A step of the optimiser; returns the norm of the policy's gradient before clipping."""
        self.optimizer.zero_grad()
        loss.backward()
        return self.step()

    # What `together` does for several agents at once, too

    @property
    def started(self) -> bool:
        """Whether the next update is one of the evidence."""
        return self.progress.updates >= self.config.start_updates

    @property
    def sizes(self) -> dict[str, int]:
        """Sizes of an update of the evidence."""
        config = self.config
        return {"batch_size": config.batch_size, "sequence_length": config.sequence_length}

    @property
    def replay(self) -> Replay:
        """The demonstrations that it learns from."""
        return self._replay

    @property
    def terms(self) -> Terms:
        """How its loss is made up."""
        config = self.config
        return Terms(config.objective, config.guidance, config.action_prior)

    def draw_explained(self) -> tuple[Tensor, Tensor]:
        """Rows for the start: what the policy sees [B, n], and inverse dynamics' actions [B, A]."""
        inputs, actions = self._explanation
        chosen = torch.randint(
            len(inputs), (REGRESSION_ROWS,), generator=self.generator, device=self.device
        )
        return inputs[chosen], actions[chosen]

    def draw_windows(self, batch_size: int, sequence_length: int) -> Windows:
        """Windows for the evidence, with noise and what lies before them."""
        config, model = self.config, self.world_model
        observations, _, embeds, rows = self._replay.sample(
            batch_size, sequence_length, self.generator
        )
        if embeds is None:
            embeds = model.embed(observations)
        noise_action = self.noise(*embeds.shape[:2], model.action_dim)
        noise_state = self.noise(*embeds.shape[:2], model.config.stoch_dim)
        if not config.sample_states:
            noise_state = torch.zeros_like(noise_state)
        before = None if config.refresh_interval is None else self._before_windows(rows[0])
        return Windows(observations, embeds, noise_action, noise_state, before)

    def step(self) -> Tensor:
        """A step of the optimiser with the gradients that are there; returns the policy's norm."""
        norm = nn.utils.clip_grad_norm_(self.policy.parameters(), self.config.grad_clip)
        self.optimizer.step()
        return norm

    def begin_update(self) -> None:
        """Brings to the device what changes from update to update."""
        config, number = self.config, self.progress.updates - self.config.start_updates
        rate = config.learning_rate_at(number)
        if number < 0:
            share = 1 - self.progress.updates / config.start_updates
            rate = config.start_learning_rate * max(0.05, share)
        set_learning_rate(self.optimizer, rate)
        windows_go_on = number >= 0 and config.refresh_interval is not None
        if windows_go_on and self._states is None:  # Resumed between two refreshes.
            with self.anchor.restored(self._changing):
                self._filtering()

    def end_update(self) -> None:
        """Counts an update."""
        self.progress.updates += 1
        if self.progress.updates == self.config.start_updates:
            self.optimizer.state.clear()  # The evidence's gradients are of another size.

    # States and actions of whole demonstrations

    @property
    def refresh_due(self) -> bool:
        """Whether the demonstrations are to be filtered anew before the next windows."""
        interval = self.config.refresh_interval
        if interval is None or not self.started:
            return False
        number = self.progress.updates - self.config.start_updates
        return number % interval == 0 or not self.anchor.tensors

    def remember_weights(self) -> None:
        """Takes the present weights for those with which the demonstrations are filtered anew."""
        self.anchor.take(self._changing)

    def take_states(self, states: Latent) -> None:
        """Takes the states of all rows, which the windows to come start from, into their place."""
        if self._states is None:
            self._states = states
        else:
            for place, part in zip(self._states, states, strict=True):
                place.copy_(part)

    def _before_windows(self, first_rows: Tensor) -> WindowStart:
        """What lies before windows with these first rows [B], under the policy."""
        assert self._states is not None
        is_first = self._replay.is_first[first_rows]
        previous = (first_rows - 1).clamp(min=0)
        kept = ~is_first[:, None]
        embed = self._replay.embedded_rows(self.world_model.embed, previous) * kept
        return WindowStart(
            Latent(*(part[previous] * kept for part in self._states)), embed, is_first
        )

    @property
    def _changing(self) -> nn.ModuleDict:
        """The networks that learn."""
        networks: dict[str, nn.Module] = {"policy": self.policy}
        if self.config.finetune:
            networks["world_model"] = self.world_model
        return nn.ModuleDict(networks)

    @property
    def _explanation(self) -> tuple[Tensor, Tensor]:
        """What the policy sees of the demonstrations [N, n], and the actions behind them [N, A].

        Inverse dynamics chooses the actions; where the world model has none, the policy, for its
        inputs' scale alone. These are all rows but each demonstration's last, filtered once.
        """
        if self._explained is None:
            replay = self._replay
            found = self._filter_all(replay, self.world_model.idm or self.policy)
            inputs = self.policy.inputs(
                found.states.feature, replay.embedded(self.world_model.embed)
            )
            parts = [rows[:-1] for rows in inputs.split(replay.lengths)]
            self._explained = torch.cat(parts), found.actions
        return self._explained

    def _filter_all(self, replay: Replay, chooser: NormalHead) -> FilteredRows:
        """Whole demonstrations, see `filter_demonstrations`."""
        return filter_demonstrations(self.world_model, [replay], chooser)[0]

    @overload
    def infer_actions(self, demonstrations: Dataset) -> list[NDArray[np.float32]]: ...

    @overload
    def infer_actions(self, demonstrations: Trajectory) -> NDArray[np.float32]: ...

    def infer_actions(
        self, demonstrations: Dataset | Trajectory
    ) -> list[NDArray[np.float32]] | NDArray[np.float32]:
        """The actions behind demonstrations: the method's own product.

        Every demonstration is filtered from its start with posterior means and the policy's modes.

        Args:
            demonstrations: A dataset, or one trajectory of one.

        Returns:
            One array [T, A] per demonstration, in a list unless there is one trajectory alone,
            within the action limits; row t led from o_t to o_{t+1}. True actions are never read.
        """
        if isinstance(demonstrations, Trajectory):
            return self._inferred(alone(demonstrations, self.env_info), self.policy)[0]
        return self._inferred(demonstrations, self.policy)

    def infer_actions_by_inverse_dynamics(
        self, demonstrations: Dataset
    ) -> list[NDArray[np.float32]]:
        """The same by the world model's inverse dynamics, for comparison.

        Raises:
            ValueError: The world model has none.
        """
        if self.world_model.idm is None:
            raise ValueError("This world model has no inverse dynamics.")
        return self._inferred(demonstrations, self.world_model.idm)

    def _inferred(self, demonstrations: Dataset, chooser: NormalHead) -> list[NDArray[np.float32]]:
        replay = self._make_replay(demonstrations, length=1)
        actions = self.env_info.from_unit(self._filter_all(replay, chooser).actions).cpu()
        parts = actions.split([length - 1 for length in replay.lengths])
        return [part.numpy() for part in parts]

    @torch.no_grad()
    def evidence_loss(self, demonstrations: Dataset) -> float:
        """The negative evidence lower bound of demonstrations, nats per row.

        It is weighted as in `learn`. They are filtered from their starts with posterior means and
        the policy's modes. On demonstrations that were held out, it says when to stop, and which
        settings are better, without a score.
        """
        model, total = self.world_model, 0.0
        replay = self._make_replay(demonstrations, length=1)
        for group in alike(replay.lengths, FILTERED_TOGETHER):
            steps = torch.arange(replay.lengths[group[0]], device=self.device)
            rows = steps[:, None] + replay.firsts[group]
            observations = {name: column[rows] for name, column in replay.columns.items()}
            embeds = model.embed(observations)
            noise = embeds.new_zeros(*rows.shape, model.config.stoch_dim)
            filtered = model.filter(embeds, noise, modes(self.policy, embeds))
            features = filtered.latents.feature
            reconstruction, kl, _ = model.evidence(filtered, features, observations)
            total += float(reconstruction + model.config.kl_scale * kl) * len(group)
        return total / len(replay)

    # Acting

    def _initial_state(self, batch: int) -> tuple[Tensor, ...]:
        return initial_acting_state(self.world_model, batch)

    def _act(
        self, observations: dict[str, Tensor], state: tuple[Tensor, ...], deterministic: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        noise_state = noise_action = None
        if not deterministic or self.config.sample_filter:
            noise_state = self.acting_noise(*state[1].shape)
        if not deterministic:
            noise_action = self.acting_noise(*state[2].shape)
        return filter_and_act(
            self.world_model,
            self.policy,
            observations,
            state,
            noise_state,
            noise_action,
            self.config.see_observation,
        )

    # Archives

    @classmethod
    def _load_published(
        cls, folder: Path, env: Environment | None, device: torch.device | str
    ) -> Self:
        weights = read_state_dict(folder / "policy.pt")
        policy = MLPConfig(hidden_dim=len(weights["mean_net.net.0.bias"]))
        env = to_vec_env(published_env_id(folder) if env is None else env)
        model = load_published(folder, EnvInfo.of(env))
        agent = cls(env, model, AIMEConfig.paper(policy=policy), device=device)
        weights = {**_unfitted(agent.policy), **weights}
        load_weights(agent.policy, weights, str(folder / "policy.pt"))
        return agent


def _unfitted(policy: FeaturePolicy) -> dict[str, Tensor]:
    """The weights of a policy that sees features as they are, beyond those of published files."""
    weights = Standardizer(len(policy.standardizer.mean)).state_dict()
    return {f"standardizer.{name}": value for name, value in weights.items()}


def _without_reward(config: WorldModelConfig) -> WorldModelConfig:
    """The same without the reward, which phase 2 ignores."""
    return dataclasses.replace(config, reward=False)
