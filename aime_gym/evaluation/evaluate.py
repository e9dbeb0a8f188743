"""Evaluation: episodes of a policy from known seeds, their returns, and the score.

score = 100 x episode return / the expert's return, percent; nothing is subtracted (Zhang et al.,
NeurIPS 2023). The expert is the published one where there is one, else the one whose dataset
``<task>-expert`` records the returns of its evaluation. Without a known expert there is no score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from aime_gym.card import Card, read_card
from aime_gym.catalogue import find_dataset
from aime_gym.evaluation.reference import published_expert_return
from aime_gym.evaluation.statistics import bootstrap_interval, interquartile_mean
from aime_gym.ids import find_env_id, task_name
from aime_gym.normalized import NormalizedPolicy, Normalizer
from aime_gym.rollout import AnyVectorEnv, Policy, State, make_envs, rollout
from aime_gym.trajectory import Trajectory

EVAL_SEED = 2_000_000  # Far from the seeds of training, and of choosing an expert's best model.
EPISODES = 100
MAX_ENVS = 50

PUBLISHED = "published expert"
RECORDED = "recorded expert episodes"
GIVEN = "given expert return"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Returns of whole episodes of one policy in one environment.

    Attributes:
        env_id: The environment.
        returns: Undiscounted return of every episode [N].
        seed: Episode i started from ``seed + i``; None where unknown.
        num_envs: Environments that ran at once; None where unknown.
        deterministic: Whether the policy was asked for its best action, not for a sample.
        expert_return: What counts as 100 percent; None where there is no expert.
        normalisation: Whose return that is; None where there is no expert.
        trajectories: The episodes, if they were recorded.

    Raises:
        ValueError: The returns are no row of finite numbers, or the expert's return is 0 or less.
    """

    env_id: str
    returns: NDArray[np.float64]
    seed: int | None = None
    num_envs: int | None = None
    deterministic: bool = True
    expert_return: float | None = None
    normalisation: str | None = None
    trajectories: tuple[Trajectory, ...] = ()

    def __post_init__(self) -> None:
        returns = np.array(self.returns, dtype=np.float64)
        if returns.ndim != 1 or not returns.size or not np.isfinite(returns).all():
            raise ValueError("Returns are one row of finite numbers [N], at least one.")
        if self.expert_return is not None and self.expert_return <= 0:
            raise ValueError(
                "A score is in percent of the expert's return, which must be above 0; got "
                f"{self.expert_return}."
            )
        returns.flags.writeable = False
        object.__setattr__(self, "returns", returns)

    @property
    def scores(self) -> NDArray[np.float64] | None:
        """Score of every episode [N], percent of the expert."""
        return None if self.expert_return is None else 100.0 * self.returns / self.expert_return

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.returns.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95% bootstrap interval of the mean return."""
        return bootstrap_interval(self.returns)

    @property
    def iqm(self) -> float:
        """Interquartile mean of the returns."""
        return float(interquartile_mean(self.returns))

    @property
    def score(self) -> float | None:
        """Mean score, percent of the expert."""
        return None if self.scores is None else float(self.scores.mean())

    @property
    def score_interval(self) -> tuple[float, float] | None:
        """95% bootstrap interval of the mean score."""
        return None if self.scores is None else bootstrap_interval(self.scores)

    @property
    def score_iqm(self) -> float | None:
        """Interquartile mean of the scores."""
        return None if self.scores is None else float(interquartile_mean(self.scores))

    def __repr__(self) -> str:
        """One line: where, how many episodes, and their return and score."""
        score = "no score" if self.score is None else f"score {self.score:.1f}%"
        count = len(self.returns)
        return f"Evaluation({self.env_id}, {count} episodes, return {self.mean:.1f}, {score})"

    def __str__(self) -> str:
        low, high = self.interval
        n = 1 if np.abs(self.returns).max() > 10 else 3  # Decimals.
        lines = [
            f"{self.env_id}, {len(self.returns)} episode{'s' if len(self.returns) > 1 else ''}"
            + ("" if self.seed is None else f" from seed {self.seed}"),
            f"  return {self.mean:.{n}f} (95% interval {low:.{n}f} to {high:.{n}f}), "
            f"IQM {self.iqm:.{n}f}",
        ]
        if self.score_interval is None:
            lines.append("  no score: no expert is known here whose return is above 0")
        else:
            low, high = self.score_interval
            lines.append(
                f"  score  {self.score:.1f}% of the {self.normalisation}, {self.expert_return:.1f} "
                f"(95% interval {low:.1f} to {high:.1f}), IQM {self.score_iqm:.1f}"
            )
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Plain values: the returns, how they came about, and what follows from them."""
        return {
            "env_id": self.env_id,
            "seed": self.seed,
            "num_envs": self.num_envs,
            "deterministic": self.deterministic,
            "expert_return": self.expert_return,
            "normalisation": self.normalisation,
            "mean": self.mean,
            "interval": list(self.interval),
            "iqm": self.iqm,
            "score": self.score,
            "score_interval": self.score_interval and list(self.score_interval),
            "score_iqm": self.score_iqm,
            "returns": self.returns.tolist(),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Evaluation:
        """The inverse of `to_json`, without trajectories."""
        told = {f.name for f in fields(cls)} & values.keys()
        return cls(**{name: values[name] for name in told})


def evaluate(
    policy: Policy,
    env: str | AnyVectorEnv,
    episodes: int = EPISODES,
    *,
    seed: int = EVAL_SEED,
    num_envs: int | None = None,
    deterministic: bool = True,
    progress_bar: bool = False,
    expert_return: float | None = None,
    record: bool = False,
    normalizer: Normalizer | None = None,
) -> Evaluation:
    """Runs whole episodes of a policy, and scores them against the expert.

    Args:
        policy: Has `predict`, as every agent and every Stable-Baselines3 model.
        env: The id of any registered environment, or a vector from `gymnasium.make_vec`.
        episodes: How many.
        seed: Episode i is reset with ``seed + i``, whatever the number of environments.
        num_envs: Environments that run at once; None for as many as episodes, at most 50. Only
            where `env` is an id.
        deterministic: Ask the policy for its best action, not for a sample.
        progress_bar: Show one.
        expert_return: What counts as 100 percent; None for the expert that is known.
        record: Keep the trajectories, with images and, where they can be read, physics states.
        normalizer: The `VecNormalize` of Stable-Baselines3 with which the policy has learned; the
            policy sees what it makes of the observations.

    Returns:
        Returns, statistics and score.

    Raises:
        TypeError: The policy has no `predict`, `env` is a single environment, or the normalizer no
            `VecNormalize`.
        ValueError: The id is not registered, the environment's spaces are not supported, the policy
            or the normalizer was made for another environment, or there are no episodes.
    """
    if episodes < 1:
        raise ValueError(f"An evaluation has at least one episode; got {episodes}.")
    with _environments(env, episodes, num_envs) as envs:
        fitted = _fit(policy, envs, normalizer)
        normalisation = _normalisation(_id_of(envs), expert_return)
        trajectories: list[Trajectory] = []
        returns = []
        with _progress(envs, episodes, progress_bar) as on_step:
            for trajectory in rollout(
                fitted, envs, episodes, seed, deterministic, record=record, on_step=on_step
            ):
                returns.append(trajectory.episode_return)
                trajectories += [trajectory] if record else []
        return Evaluation(
            env_id=_id_of(envs),
            returns=np.array(returns),
            seed=seed,
            num_envs=envs.num_envs,
            deterministic=deterministic,
            trajectories=tuple(trajectories),
            **normalisation,
        )


def expert_evaluation(card: Card, expert_return: float | None = None) -> Evaluation:
    """The evaluation of a dataset's expert, from the returns recorded in the dataset's card.

    Args:
        card: A dataset's card.
        expert_return: What counts as 100 percent; None for the expert that is known.

    Raises:
        ValueError: The card records no returns, or is of no one environment.
    """
    if not card.evaluation_returns or card.env_id is None:
        raise ValueError(
            f"The card of {card.name!r} has no evaluation_returns or no env_id: it is no expert's."
        )
    return Evaluation(
        env_id=card.env_id,
        returns=np.array(card.evaluation_returns),
        **_normalisation(card.env_id, expert_return),
    )


# The environments


@contextmanager
def _environments(
    env: str | AnyVectorEnv, episodes: int, num_envs: int | None
) -> Iterator[AnyVectorEnv]:
    """The vector environment; one that was made here is closed in the end."""
    if isinstance(env, gym.vector.VectorEnv):
        if num_envs not in (None, env.num_envs):
            raise ValueError(f"num_envs is {num_envs}, but env has {env.num_envs} environments.")
        yield env
        return
    if not isinstance(env, str):
        raise TypeError(
            f"env is an id or a vector environment from gymnasium.make_vec; got {type(env)}."
        )
    envs = make_envs(env, num_envs or min(episodes, MAX_ENVS))
    try:
        yield envs
    finally:
        envs.close()


def _id_of(envs: AnyVectorEnv) -> str:
    if envs.spec is None:
        raise ValueError("The environments have no spec: make them with gymnasium.make_vec.")
    return envs.spec.id


@contextmanager
def _progress(
    envs: AnyVectorEnv, episodes: int, visible: bool
) -> Iterator[Callable[[int], None] | None]:
    """A bar of finished episodes, which also tells the steps."""
    if not visible:
        yield None
        return
    from tqdm import tqdm

    steps_of_round = 0
    running_before = 0
    with tqdm(total=episodes, desc=_id_of(envs), unit="episode") as bar:

        def on_step(running: int) -> None:
            nonlocal steps_of_round, running_before
            started = min(envs.num_envs, episodes - bar.n) if running_before == 0 else 0
            steps_of_round = 1 if started else steps_of_round + 1
            bar.update((started or running_before) - running)
            bar.set_postfix_str(f"step {steps_of_round}", refresh=steps_of_round % 20 == 0)
            running_before = running

        yield on_step


# The policy


def _fit(policy: Policy, envs: AnyVectorEnv, normalizer: Normalizer | None) -> Policy:
    """The policy, if its spaces are those of the environments, and sees what the normaliser makes.

    Images may come to it with the channels first, as to a Stable-Baselines3 model.
    """
    if not callable(getattr(policy, "predict", None)):
        raise TypeError(
            f"A policy has predict(observation, state, episode_start, deterministic); "
            f"{type(policy).__name__} has not."
        )
    if normalizer is not None:
        policy = NormalizedPolicy(policy, normalizer)
    _check_space("actions", getattr(policy, "action_space", None), envs.single_action_space, envs)
    space, expected = getattr(policy, "observation_space", None), envs.single_observation_space
    if isinstance(space, spaces.Box) and space.shape == _channels_first(expected.shape):
        return _ChannelsFirst(policy)
    _check_space("observations", space, expected, envs)
    return policy


def _check_space(
    what: str, space: spaces.Space[Any] | None, expected: spaces.Space[Any], envs: AnyVectorEnv
) -> None:
    if space is not None and _form(space) != _form(expected):
        raise ValueError(
            f"The policy's {what} are {space}, those of {_id_of(envs)} are {expected}. "
            "Was it made for another environment?"
        )


def _form(space: spaces.Space[Any]) -> tuple[Any, ...]:
    """What two spaces have in common whose values mean the same to a policy."""
    return type(space), space.shape, getattr(space, "n", None)


def _channels_first(shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
    return (shape[2], *shape[:2]) if shape is not None and len(shape) == 3 else None


class _ChannelsFirst:
    """Shows images [B, H, W, 3] to a policy as [B, 3, H, W]."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.check_env = getattr(policy, "check_env", None)

    def predict(
        self,
        observation: NDArray[Any],
        state: State | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], State | None]:
        """Images [B, H, W, 3] and recurrent state -> actions [B, A] and the next state."""
        return self._policy.predict(
            np.moveaxis(observation, -1, 1), state, episode_start, deterministic
        )


# The expert


def _normalisation(env_id: str, given: float | None) -> dict[str, Any]:
    """What counts as 100 percent, and whose return it is."""
    if given is not None:
        return {"expert_return": given, "normalisation": GIVEN}
    parts = find_env_id(env_id)
    if parts is not None:
        published = published_expert_return(parts.body, parts.task)
        if published is not None:
            return {"expert_return": published, "normalisation": PUBLISHED}
    card = expert_card(env_id)
    recorded = 0.0 if card is None else float(np.mean(card.evaluation_returns))
    return {"expert_return": recorded, "normalisation": RECORDED} if recorded > 0 else {}


def expert_card(env_id: str) -> Card | None:
    """The card of the expert's dataset, ``<task>-expert``; None without one that has returns.

    Raises:
        ValueError: The id is not registered, the dataset is there twice, or its card is damaged.
    """
    try:
        card = read_card(find_dataset(f"{task_name(env_id)}-expert"))
    except FileNotFoundError:
        return None
    return card if card.evaluation_returns else None
