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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.actor import Actor
from agents.base import OfflineLearner
from agents.distributions import Normal
from agents.nets import MLPConfig, NormalHead
from agents.parts import load_weights
from agents.replay import Replay, make_replay
from agents.running import Metrics
from agents.spaces import REWARD, EnvInfo, Environment, to_vec_env
from agents.world_models.config import WorldModelConfig
from agents.world_models.loop import LoopNormalHead
from agents.world_models.losses import action_kl_loss
from agents.world_models.network import Observations, WorldModelNet
from agents.world_models.published import load_published, published_env_id, read_state_dict
from agents.world_models.rssm import Latent
from agents.world_models.world_model import WorldModel
from aime_gym.datasets import Dataset

Objective = Literal["elbo", "kl_only", "reconstruction_only"]


@dataclass(frozen=True)
class AIMEConfig:
    """Settings of phase 2; the defaults are the paper's.

    Attributes:
        objective: The whole evidence lower bound, or one of its terms.
        guidance: Whether actions come from the model's inverse dynamics, which the policy follows.
        finetune: Whether the world model is trained along with the policy.
        num_demonstrations: The number of demonstrations to use, from the first on.
        sequence_length: Rows of a window.
        batch_size: Windows per update.
        learning_rate: Adam's learning rate.
        grad_clip: Largest norm of the gradient.
        policy: The policy's networks, one for means and one for standard deviations.
        sample_filter: Whether the posterior is sampled while acting, even if deterministic, as in
            the reference implementation's evaluation.
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

    filtered = model.filter(embeds, noise_state, act)
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


class AIMEAgent(OfflineLearner, Actor):
    """Imitates demonstrations with a pretrained world model.

    Args:
        env: An id, environment or VecEnv, of the world model's body and setup.
        world_model: A trained `WorldModel`, or the name of one for `WorldModel.load`. (A
            configuration makes an untrained one, for weights that are still to be loaded.)
        config: Settings; None for the paper's.
        **common: seed, device, verbose and tensorboard_log, as for every `Learner`.

    Raises:
        TypeError: There is no world model.
        ValueError: World model and environment do not fit, or guidance lacks inverse dynamics.

    Example:
        >>> agent = AIMEAgent("AIME/walker-run-mdp", "walker-mix-mdp")  # doctest: +SKIP
        >>> agent.learn(aime_gym.load_dataset("walker-run-expert"))  # doctest: +SKIP
    """

    parts: ClassVar[tuple[str, ...]] = ("world_model", "policy", "optimizer")

    def __init__(
        self,
        env: Environment | EnvInfo,
        world_model: WorldModel | WorldModelNet | WorldModelConfig | str | os.PathLike[str],
        config: AIMEConfig | None = None,
        **common: Any,
    ) -> None:
        super().__init__(env, **common)
        self.config = config = config or AIMEConfig()
        with self.initialization():
            model = _pretrained(world_model, self.env_info)
            self.policy = NormalHead(model.feature_dim, model.action_dim, config.policy)
        self.env_info = model.info
        self.arguments = {"world_model": model.config, "config": config}
        if config.guidance and model.idm is None:
            raise ValueError(
                "Guidance needs a world model with inverse dynamics; this one has none."
            )
        self.world_model = model.requires_grad_(config.finetune).to(self.device)
        self.policy.to(self.device)
        self.optimizer = torch.optim.Adam(self._trained(), lr=config.learning_rate)

    def _trained(self) -> list[nn.Parameter]:
        both = (*self.world_model.parameters(), *self.policy.parameters())
        return [parameter for parameter in both if parameter.requires_grad]

    # Learning

    def _prepare(self, demonstrations: Dataset, reset: bool, progress_bar: bool) -> None:
        config = self.config
        chosen = demonstrations[: config.num_demonstrations]
        self._replay = self._make_replay(chosen, config.sequence_length, progress_bar)
        if not config.finetune:
            self._replay.embed(self.world_model.embed)

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
        config, model = self.config, self.world_model
        observations, _, embeds = self._replay.sample(
            config.batch_size, config.sequence_length, self.generator
        )
        if embeds is None:
            embeds = model.embed(observations)
        loss, metrics, _ = action_inference_loss(
            model,
            self.policy,
            observations,
            embeds,
            self.noise(*embeds.shape[:2], model.action_dim),
            self.noise(*embeds.shape[:2], model.config.stoch_dim),
            config.objective,
            config.guidance,
        )
        self.optimizer.zero_grad()
        loss.backward()
        metrics["grad_norm"] = nn.utils.clip_grad_norm_(self._trained(), config.grad_clip)
        self.optimizer.step()
        return metrics

    @torch.no_grad()
    def infer_actions(self, demonstrations: Dataset) -> list[NDArray[np.float32]]:
        """The actions behind demonstrations: the method's own product.

        Every demonstration is filtered from its start with posterior means and the policy's modes.

        Returns:
            One array [T, A] per demonstration, within the action limits; row t led from o_t to
            o_{t+1}. True actions are never read.
        """
        replay = self._make_replay(demonstrations, length=1)
        embeds = replay.embed(self.world_model.embed).split(replay.lengths)
        inferred: dict[int, NDArray[np.float32]] = {}
        for length in sorted({*replay.lengths}):
            alike = [index for index, other in enumerate(replay.lengths) if other == length]
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
        noise = embeds.new_zeros(steps, batch, self.world_model.config.stoch_dim)
        filtered = self.world_model.filter(
            embeds, noise, lambda feature: torch.tanh(chooser(feature).mean)
        )
        return filtered.actions

    # Acting

    def _initial_state(self, batch: int) -> tuple[Tensor, ...]:
        prev_action = torch.zeros(batch, self.world_model.action_dim, device=self.device)
        return (*self.world_model.cell.initial(batch), prev_action)

    def _act(
        self, observations: dict[str, Tensor], state: tuple[Tensor, ...], deterministic: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        deter, stoch, prev_action = state
        sampled = not deterministic or self.config.sample_filter
        noise = self.acting_noise(*stoch.shape) if sampled else torch.zeros_like(stoch)
        embed = self.world_model.embed(observations)
        latent, _ = self.world_model.cell.observe(Latent(deter, stoch), prev_action, embed, noise)
        choice = self.policy(latent.feature)
        if deterministic:
            action = torch.tanh(choice.mean)
        else:
            action = torch.tanh(choice.sample(self.acting_noise(*prev_action.shape)))
        return action, (*latent, action)

    # Archives

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        env: Environment | None = None,
        device: torch.device | str = "auto",
    ) -> Self:
        """Loads a name, an archive, a run folder, or a published folder with ``policy.pt``.

        A published agent's environment is the one named in its ``config.yaml`` unless one is given.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is truncated or of another kind, or the environment does not fit.
        """
        folder = Path(path)
        if not (folder / "policy.pt").is_file():
            return super().load(path, env, device)
        weights = read_state_dict(folder / "policy.pt")
        policy = MLPConfig(hidden_dim=len(weights["mean_net.net.0.bias"]))
        env = to_vec_env(published_env_id(folder) if env is None else env)
        model = load_published(folder, EnvInfo.of(env))
        agent = cls(env, model, AIMEConfig(policy=policy), device=device)
        load_weights(agent.policy, weights, str(folder / "policy.pt"))
        return agent


def _pretrained(world_model: object, info: EnvInfo) -> WorldModelNet:
    """A copy of a world model for an environment, without the reward, which phase 2 ignores."""
    if isinstance(world_model, WorldModelConfig):
        return WorldModelNet(info, world_model)
    if isinstance(world_model, str | os.PathLike):
        world_model = WorldModel.load(world_model)
    if isinstance(world_model, WorldModel):
        world_model = world_model.net
    if not isinstance(world_model, WorldModelNet):
        raise TypeError(
            f"world_model is a WorldModel or the name of one, not {type(world_model).__name__}."
        )
    info = world_model.info.adapted_to(info, "The world model")
    model = WorldModelNet(info, dataclasses.replace(world_model.config, reward=False))
    reward = f"decoders.{REWARD}."
    weights = {n: w for n, w in world_model.state_dict().items() if not n.startswith(reward)}
    load_weights(model, weights, "the world model")
    return model
