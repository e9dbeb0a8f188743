"""A Gymnasium vector environment as Stable-Baselines3's VecEnv.

N environments. The two differ where an episode ends:

| | Gymnasium | Stable-Baselines3 |
| --- | --- | --- |
| observation of that step | the last (NEXT_STEP) or the first (SAME_STEP) | the first of the next |
| the last one | the observation, or ``info["final_obs"]`` | ``info["terminal_observation"]`` |
| ended by a time limit | ``truncated`` | ``info["TimeLimit.truncated"]`` |
| infos | a dictionary of arrays | a list of dictionaries |
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from gymnasium.vector.utils import iterate
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

ROUNDED = 6  # Decimals of an episode's return and time, as Monitor's.


class GymnasiumVecEnv(VecEnv):
    """Lets Stable-Baselines3 train and evaluate in a Gymnasium vector environment.

    It is its own Monitor: an episode's last info has ``episode``, with the return ``r``, the length
    ``l`` in agent steps and the time ``t`` since the making of this object, s.

    Args:
        env: From `gymnasium.make_vec`, in any autoreset mode.

    Raises:
        ValueError: The environment does not state its autoreset mode.
    """

    def __init__(self, env: gym.vector.VectorEnv[Any, Any, Any]) -> None:
        mode = env.metadata.get("autoreset_mode")
        if not isinstance(mode, AutoresetMode):
            raise ValueError(
                "The vector environment should state its autoreset_mode in its metadata, one of "
                f"{', '.join(str(mode) for mode in AutoresetMode)}; it has {mode!r}."
            )
        self.env = env
        self._resets_itself = mode == AutoresetMode.SAME_STEP
        self._made_at = time.time()
        self._returns = np.zeros(env.num_envs)
        self._lengths = np.zeros(env.num_envs, dtype=int)
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    # The interaction

    def reset(self) -> VecEnvObs:
        """Starts an episode in every environment, with the seeds from `seed`.

        Raises:
            ValueError: The environments were given different options.
        """
        seeds = None if all(seed is None for seed in self._seeds) else self._seeds
        observation, info = self.env.reset(seed=seeds, options=self._common_options())  # type: ignore[arg-type]
        self.reset_infos = self._rows(info)
        self._reset_seeds()
        self._reset_options()
        self._returns[:], self._lengths[:] = 0.0, 0
        return observation  # type: ignore[no-any-return]

    def _common_options(self) -> dict[str, Any] | None:
        if any(options != self._options[0] for options in self._options):
            raise ValueError("Gymnasium's vector environments take the same options for all.")
        return self._options[0] or None

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keeps the actions [N, ..] for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """One step; environments whose episode ends start anew in the same step."""
        observation, rewards, terminated, truncated, info = self.env.step(self._actions)
        over = np.asarray(terminated | truncated)
        self._returns += rewards
        self._lengths += 1
        infos = self._rows(info)
        if over.any():
            observation = self._restart(over, observation, infos)
        for index in range(self.num_envs):
            infos[index]["TimeLimit.truncated"] = bool(truncated[index] and not terminated[index])
        return observation, rewards.astype(np.float32), over, infos

    def _restart(
        self, over: NDArray[np.bool_], observation: Any, infos: list[dict[str, Any]]
    ) -> VecEnvObs:
        """Ends episodes: fills in their infos, and returns the next ones' first observations."""
        ended: list[int] = np.flatnonzero(over).tolist()
        if self._resets_itself:
            last = {index: infos[index].pop("final_obs") for index in ended}
            ends = {index: infos[index].pop("final_info") for index in ended}
            starts = list(infos)
        else:
            rows = list(iterate(self.env.observation_space, observation))
            last = {index: rows[index] for index in ended}
            ends = {index: infos[index] for index in ended}
            observation, info = self.env.reset(options={"reset_mask": over})
            starts = self._rows(info)
        for index in ended:
            self.reset_infos[index] = starts[index]
            infos[index] = ends[index] | {
                "terminal_observation": last[index],
                "episode": self._episode(index),
            }
        self._returns[over], self._lengths[over] = 0.0, 0
        return observation  # type: ignore[no-any-return]

    def _episode(self, index: int) -> dict[str, Any]:
        return {
            "r": round(float(self._returns[index]), ROUNDED),
            "l": int(self._lengths[index]),
            "t": round(time.time() - self._made_at, ROUNDED),
        }

    def _rows(self, info: dict[str, Any]) -> list[dict[str, Any]]:
        return [_row(info, index) for index in range(self.num_envs)]

    def close(self) -> None:
        """Closes the vector environment."""
        self.env.close()

    # What single environments offer

    def has_attr(self, attr_name: str) -> bool:
        """Whether all environments have an attribute."""
        if isinstance(self.env.unwrapped, AsyncVectorEnv):  # Its processes die of missing ones.
            return all(self._call("has_wrapper_attr", attr_name))
        return super().has_attr(attr_name)

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute's values, in the environments of the indices."""
        values = self._call(attr_name)
        return [values[index] for index in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Sets an attribute in the environments of the indices.

        Raises:
            NotImplementedError: The vector environment has no `set_attr`.
        """
        setter = getattr(self.env.unwrapped, "set_attr", None)
        if setter is None:
            raise NotImplementedError(f"{type(self.env.unwrapped).__name__} has no set_attr.")
        chosen = set(self._get_indices(indices))
        if chosen == set(range(self.num_envs)):
            values = [value] * self.num_envs
        else:
            values = [
                value if index in chosen else old for index, old in enumerate(self._call(attr_name))
            ]
        setter(attr_name, values)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Calls a method of every environment.

        Raises:
            NotImplementedError: Of some environments only: Gymnasium calls all or none.
        """
        if list(self._get_indices(indices)) != list(range(self.num_envs)):
            raise NotImplementedError(
                "A Gymnasium vector environment calls a method in all environments, not in "
                f"{indices}."
            )
        return list(self._call(method_name, *method_args, **method_kwargs))

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Whether the environments act as Monitor does; other wrappers are not seen."""
        return [issubclass(wrapper_class, Monitor) for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """The picture of every environment."""
        return list(self._call("render"))

    def _call(self, name: str, *args: Any, **kwargs: Any) -> Sequence[Any]:
        inner = self.env.unwrapped
        if not hasattr(inner, "call"):
            raise AttributeError(f"{type(inner).__name__} has no call, so no {name} of its parts.")
        results: Sequence[Any] = inner.call(name, *args, **kwargs)
        return results


def _row(info: dict[str, Any], index: int) -> dict[str, Any]:
    """One environment's part of a vector info: ``_<name>`` masks who has ``<name>``."""
    row = {}
    for name, values in info.items():
        mask = info.get(f"_{name}")
        if name.startswith("_") or (mask is not None and not mask[index]):
            continue
        row[name] = _row(values, index) if isinstance(values, dict) else values[index]
    return row
