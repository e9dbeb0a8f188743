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
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.archive import load_weights
from agents.base import Agent, Metrics
from agents.distributions import Normal
from agents.env_info import EnvInfo, Environment
from agents.layout import REWARD
from agents.nets import LoopNormalHead, MLPConfig, NormalHead
from agents.windows import Rows, Windows, fit_dataset
from agents.world_models.checkpoints import load_published, published_env_id, read_state_dict
from agents.world_models.learner import WorldModel, config_from_json
from agents.world_models.losses import action_kl_loss
from agents.world_models.rssm import Latent
from agents.world_models.world_model import Observations, WorldModelNet
from aime_gym.datasets import Dataset

Objective = Literal["elbo", "kl_only", "reconstruction_only"]
EMBED = "embed"


@dataclass(frozen=True)
class AIMEConfig:
    """Phase 2; the defaults are the paper's.

    Attributes:
        objective: The whole bound, or one of its terms.
        guidance: Actions come from the model's inverse dynamics, and the policy follows them.
        finetune: Train the world model along with the policy.
        num_demonstrations: The first so many demonstrations are used.
        sequence_length: Rows of a window.
        batch_size: Windows of an update.
        learning_rate: Of Adam.
        grad_clip: Largest norm of the gradient.
        policy: The policy's networks, one for means and one for standard deviations.
        sample_filter: Sample the posterior while acting, even if deterministic, as the reference
            implementation does in its evaluation.
    """

    objective: Objective = "elbo"
    guidance: bool = False
    finetune: bool = False
    num_demonstrations: int = 100
    sequence_length: int = 50
    batch_size: int = 50
    learning_rate: float = 3e-4
    grad_clip: float = 100.0
    policy: MLPConfig = dataclasses.field(default_factory=MLPConfig)
    sample_filter: bool = False


def action_inference_loss(
    model: WorldModelNet,
    policy: NormalHead,
    observations: Observations,
    embeds: Tensor,
    noise_action: Tensor,
    noise_state: Tensor,
    objective: Objective = "elbo",
    guidance: bool = False,
) -> tuple[Tensor, Metrics, Tensor]:
    """The negative evidence lower bound of observations, as a function of the policy.

    Free nats do not act and the KL is not balanced: balancing would keep the value and change the
    gradient. With guidance, a ~ idm(s_{t-1}, e_t), and kl_scale x KL(idm || policy) is added.

    Args:
        model: The world model; freeze it unless it is trained along.
        policy: feature -> normal beneath the action.
        observations: Sensor -> [T, B, n].
        embeds: Their embeddings [T, B, E].
        noise_action: [T, B, A].
        noise_state: [T, B, S].
        objective: Which terms count.
        guidance: Whether inverse dynamics chooses the actions.

    Returns:
        The loss, its parts by name, and the inferred actions a_{t-1} [T, B, A].
    """
    steps, batch = embeds.shape[:2]
    chooser = LoopNormalHead(policy, steps, batch)
    if guidance:
        assert model.idm is not None
        chooser = LoopNormalHead(model.idm, steps, batch, known=embeds)
    noises, choices = iter(noise_action.unbind(0)), list[Normal]()

    def act(feature: Tensor) -> Tensor:
        choices.append(chooser(feature))
        return torch.tanh(choices[-1].sample(next(noises)))

    filtered = model.filter(embeds, noise_state, act=act)
    feature = filtered.latents.feature
    decoded = feature.detach() if objective == "kl_only" else feature
    reconstruction, kl, metrics = model.evidence(filtered, decoded, observations)
    terms = {
        "elbo": reconstruction + model.config.kl_scale * kl,
        "kl_only": kl,
        "reconstruction_only": reconstruction,
    }
    loss = terms[objective]
    if guidance:
        before = torch.cat([torch.zeros_like(feature[:1]), feature[:-1]])
        guide = Normal(*(torch.stack(part) for part in zip(*choices, strict=True)))
        action_kl, action_metrics = action_kl_loss(guide, policy(before))
        loss = loss + model.config.kl_scale * action_kl
        metrics |= action_metrics
    metrics["total_loss"] = loss.detach()
    return loss, metrics, filtered.actions


class AIMEAgent(Agent):
    """Imitates demonstrations with a pretrained world model.

    Args:
        env: An AIME id, environment or VecEnv, of the world model's body and setup.
        world_model: A trained `WorldModel`, or the name of one for `WorldModel.load`.
        config: Phase 2; None for the paper's.
        **common: seed, device, verbose and tensorboard_log, as for every `Learner`.

    Raises:
        TypeError: There is no world model.
        ValueError: World model and environment do not fit, or guidance lacks inverse dynamics.

    Example:
        >>> agent = AIMEAgent("AIME/walker-run-mdp", "walker-mix-mdp")  # doctest: +SKIP
        >>> agent.learn(aime_gym.load_dataset("walker-run-expert"))  # doctest: +SKIP
    """

    def __init__(
        self,
        env: Environment | EnvInfo,
        world_model: WorldModel | WorldModelNet | str | os.PathLike[str],
        config: AIMEConfig | None = None,
        **common: Any,
    ) -> None:
        self.config = config or AIMEConfig()
        if isinstance(world_model, str | os.PathLike):
            world_model = WorldModel.load(world_model)
        if isinstance(world_model, WorldModel):
            world_model = world_model.net
        if not isinstance(world_model, WorldModelNet):
            raise TypeError(
                f"world_model is a WorldModel or the name of one, not {type(world_model).__name__}."
            )
        self._given_model = world_model
        super().__init__(env, **common)

    def _build(self) -> nn.Module:
        given = self._given_model
        _check_fit(given, self.env_info, self.config)
        model = WorldModelNet(given.layout, dataclasses.replace(given.config, reward=False))
        weights = {n: w for n, w in given.state_dict().items() if f"decoders.{REWARD}." not in n}
        load_weights(model, weights, "the world model")
        del self._given_model
        self.model = model.requires_grad_(self.config.finetune)
        self.policy = NormalHead(
            model.feature_dim, self.env_info.layout.action_dim, self.config.policy
        )
        return nn.ModuleDict({"world_model": self.model, "policy": self.policy})

    def _make_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self._trained(), lr=self.config.learning_rate)

    def _trained(self) -> list[nn.Parameter]:
        return [p for p in self._networks.parameters() if p.requires_grad]

    # Learning

    def _prepare(self, dataset: Dataset, progress_bar: bool) -> None:
        length = self.config.sequence_length
        rows = self._rows(dataset[: self.config.num_demonstrations], length, progress_bar)
        if not self.config.finetune:
            rows.columns[EMBED] = embed_all(self.model, rows.columns)
        self._windows = Windows(rows, length)

    def _rows(self, dataset: Dataset, length: int, progress_bar: bool = False) -> Rows:
        """Checks and gathers what the model observes, and never the actions."""
        info, present = self.env_info, dataset.sensor_shapes
        probed = {n: size for n, size in self.model.layout.hidden.items() if n in present}
        sensors = {**info.layout.visible, **probed}
        dataset = dataset.observations_only()
        dataset = fit_dataset(dataset, info, sensors, length, False, progress_bar)
        return Rows(dataset, [*info.visible, *probed], actions=False, device=self.device)

    def _update(self) -> Metrics:
        config, model = self.config, self.model
        observations = self._windows.sample(config.batch_size, self._generator).observations
        embeds = observations.get(EMBED)
        if embeds is None:
            embeds = model.embed(observations)
        loss, metrics, _ = action_inference_loss(
            model,
            self.policy,
            observations,
            embeds,
            self._draw(*embeds.shape[:2], model.layout.action_dim),
            self._draw(*embeds.shape[:2], model.config.stoch_dim),
            config.objective,
            config.guidance,
        )
        self._optimizer.zero_grad()
        loss.backward()
        metrics["grad_norm"] = nn.utils.clip_grad_norm_(self._trained(), config.grad_clip)
        self._optimizer.step()
        return metrics

    def _draw(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._generator, device=self.device)

    @torch.no_grad()
    def infer_actions(self, demonstrations: Dataset) -> list[NDArray[np.float32]]:
        """The actions behind demonstrations: the method's own product.

        Every demonstration is filtered from its start with posterior means and the policy's modes.

        Returns:
            One array [T, A] a demonstration, within the action limits; row t led from o_t to
            o_{t+1}. True actions are never read.
        """
        rows = self._rows(demonstrations, length=1)
        embeds = embed_all(self.model, rows.columns).split(rows.lengths)
        inferred: dict[int, NDArray[np.float32]] = {}
        for length in sorted({*rows.lengths}):
            alike = [index for index, other in enumerate(rows.lengths) if other == length]
            for start in range(0, len(alike), self.config.batch_size):
                batch = alike[start : start + self.config.batch_size]
                actions = self._explain(torch.stack([embeds[index] for index in batch], dim=1))
                explained = self.env_info.from_unit(actions[1:]).cpu().numpy()
                inferred |= zip(batch, explained.swapaxes(0, 1), strict=True)
        return [inferred[index] for index in range(len(demonstrations))]

    def _explain(self, embeds: Tensor) -> Tensor:
        """Embeddings [T, B, E] to the actions behind them [T, B, A], without randomness."""
        steps, batch = embeds.shape[:2]
        chooser = LoopNormalHead(self.policy, steps, batch)

        def act(feature: Tensor) -> Tensor:
            return torch.tanh(chooser(feature).mean)

        noise = embeds.new_zeros(steps, batch, self.model.config.stoch_dim)
        return self.model.filter(embeds, noise, act=act).actions

    # Acting

    def _initial_state(self, batch: int) -> tuple[Tensor, ...]:
        latent = self.model.cell.initial(batch)
        prev_action = torch.zeros(batch, self.model.layout.action_dim, device=self.device)
        return (*latent, prev_action)

    def _act(
        self, observations: dict[str, Tensor], state: tuple[Tensor, ...], deterministic: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        deter, stoch, prev_action = state
        batch = len(deter)
        noise = torch.zeros(1, *stoch.shape, device=self.device)
        if not deterministic or self.config.sample_filter:
            noise = self._noise(*noise.shape)
        embeds = self.model.embed({name: value[None] for name, value in observations.items()})
        latents = self.model.filter(
            embeds, noise, prev_action[None], start=Latent(deter, stoch)
        ).latents
        choice = self.policy(latents.feature[0])
        if deterministic:
            action = torch.tanh(choice.mean)
        else:
            action = torch.tanh(choice.sample(self._noise(batch, prev_action.shape[-1])))
        return action, (latents.deter[0], latents.stoch[0], action)

    # Archives

    def _config(self) -> dict[str, Any]:
        return {
            "config": dataclasses.asdict(self.config),
            "world_model": dataclasses.asdict(self.model.config),
            "layout": dataclasses.asdict(self.model.layout),
        }

    @classmethod
    def _from_config(cls, config: dict[str, Any], **common: Any) -> Self:
        phase_2 = dict(config["config"])
        phase_2["policy"] = MLPConfig(**phase_2["policy"])
        with torch.random.fork_rng():
            model = WorldModelNet(*config_from_json(config["layout"], config["world_model"]))
        return cls(common.pop("env"), model, AIMEConfig(**phase_2), **common)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        env: Environment | None = None,
        device: torch.device | str = "auto",
    ) -> Self:
        """Reads an archive, or a published folder with ``model.pt`` and ``policy.pt``.

        A published agent's environment is the one named in its ``config.yaml`` unless one is given.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is truncated or foreign, or the environment does not fit.
        """
        folder = Path(path)
        if not folder.is_dir():
            return super().load(path, env, device)
        model = load_published(folder)
        weights = read_state_dict(folder / "policy.pt")
        policy = MLPConfig(hidden_dim=len(weights["mean_net.net.0.bias"]))
        if env is None:
            env = published_env_id(folder)
        agent = cls(env, model, AIMEConfig(policy=policy), device=device)
        load_weights(agent.policy, weights, str(folder / "policy.pt"))
        return agent


@torch.no_grad()
def embed_all(model: WorldModelNet, columns: Mapping[str, Tensor], chunk: int = 1_000) -> Tensor:
    """Embeddings of all rows [rows, E], in chunks that fit any memory."""
    rows = len(next(iter(columns.values())))
    return torch.cat(
        [
            model.embed({name: column[i : i + chunk] for name, column in columns.items()})
            for i in range(0, rows, chunk)
        ]
    )


def _check_fit(model: WorldModelNet, info: EnvInfo, config: AIMEConfig) -> None:
    layout = model.layout
    if (layout.body, layout.setup) != (info.body, info.setup):
        raise ValueError(
            f"The world model is of {layout.body}, {layout.setup}; {info.env_id} needs one of "
            f"{info.body}, {info.setup}."
        )
    if dict(layout.visible) != dict(info.layout.visible):
        raise ValueError(
            f"The world model sees {dict(layout.visible)}; {info.env_id} shows "
            f"{dict(info.layout.visible)}."
        )
    if config.guidance and model.idm is None:
        raise ValueError("Guidance needs a world model with inverse dynamics; this one has none.")
