"""Policies that see their observations normalised, as those that learned with `VecNormalize` do."""

from __future__ import annotations

from typing import Any, Protocol

from gymnasium import spaces
from numpy.typing import NDArray

from aime_gym.rollout import AnyVectorEnv, Policy, State


class Normalizer(Protocol):
    """What Stable-Baselines3's `VecNormalize` has."""

    observation_space: spaces.Space[Any]

    def normalize_obs(self, obs: Any) -> Any:
        """Observations [N, ..] -> in standard deviations from the mean [N, ..]."""
        ...


class NormalizedPolicy:
    """A policy that sees what a normaliser makes of the observations.

    Args:
        policy: What acts.
        normalizer: A `VecNormalize`; its statistics stay as they are.

    Raises:
        TypeError: It is none.
        ValueError: It is of other observations than the policy.
    """

    def __init__(self, policy: Policy, normalizer: Normalizer) -> None:
        if not callable(getattr(normalizer, "normalize_obs", None)):
            raise TypeError(
                "normalizer is a VecNormalize of Stable-Baselines3, with normalize_obs; got "
                f"{type(normalizer).__name__}."
            )
        self.observation_space = normalizer.observation_space
        self.action_space = getattr(policy, "action_space", None)
        self._policy, self._normalizer = policy, normalizer
        seen: spaces.Space[Any] = getattr(policy, "observation_space", self.observation_space)
        if seen.shape != self.observation_space.shape:
            raise ValueError(
                f"The normalizer is of observations of shape {self.observation_space.shape}; the "
                f"policy sees {seen.shape}."
            )

    def check_env(self, env: AnyVectorEnv) -> None:
        """Checks that the policy was made for normalised observations of environments.

        Raises:
            ValueError: It was made for others, and tells.
        """
        if callable(check := getattr(self._policy, "check_env", None)):
            check(env, (type(self._normalizer).__name__,))

    def predict(
        self,
        observation: NDArray[Any],
        state: State | None = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], State | None]:
        """Observations [N, ..] as the environments give them, and recurrent state -> actions."""
        seen = self._normalizer.normalize_obs(observation)
        return self._policy.predict(seen, state, episode_start, deterministic)
