"""Many grid worlds as one Gymnasium vector environment.

`GridVectorEnv` is the interaction: seeds, autoreset, the state of a checkpoint. Two classes fill it
in: `GridEngine`, in arrays, for all environments with MiniGrid's own rules, and `SeparateGrids`,
one MiniGrid environment after the other, for those with rules of their own.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from aime_gym.envs.minigrid.cells import ACTIONS, DONE, Sensor, sensors_of
from aime_gym.envs.resets import Mask, Seeds, check_mask, list_seeds

Bytes = NDArray[np.uint8]
States = dict[str, NDArray[Any]]


def make_full_grids(
    env_id: str,
    num_envs: int = 1,
    engine: bool | None = None,
    autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
    layout_seed: int | None = None,
    **options: Any,
) -> GridVectorEnv:
    """`num_envs` times the same `FullGridEnv`; what ``gym.make_vec("FullGrid/...")`` makes.

    Args:
        env_id: Id of the MiniGrid environment.
        num_envs: Number of environments N.
        engine: Step in arrays; None where that is possible, else MiniGrid itself.
        autoreset_mode: When an environment whose episode is over starts anew: in the next step, in
            the same step (its last observation is in ``info["final_obs"]``), or never by itself
            (``options={"reset_mask": mask}``).
        layout_seed: Every episode starts from the layout of this seed; None for new ones.
        **options: Options of the MiniGrid environment, such as ``max_steps``.

    Raises:
        ModuleNotFoundError: MiniGrid is not installed.
        TypeError: `env_id` is no environment of MiniGrid.
        ValueError: There are no environments, or the engine does not have their rules.
    """
    from aime_gym.envs.minigrid.engine import GridEngine
    from aime_gym.envs.minigrid.environment import FullGridEnv, make_minigrid
    from aime_gym.envs.minigrid.layouts import why_not_covered
    from aime_gym.envs.minigrid.separate import SeparateGrids

    if num_envs < 1:
        raise ValueError(f"num_envs is at least 1; got {num_envs}.")
    inner = make_minigrid(env_id, **options)
    reason = why_not_covered(inner)
    if engine and reason is not None:
        raise ValueError(f"The engine does not cover {env_id}: {reason}.")
    mode = AutoresetMode(autoreset_mode)
    if reason is None and engine is not False:
        return GridEngine(inner, num_envs, mode, layout_seed)
    envs = [FullGridEnv(env_id, **options) for _ in range(num_envs)]
    return SeparateGrids(envs, mode, layout_seed)


class GridVectorEnv(gym.vector.VectorEnv[Bytes, NDArray[np.int64], NDArray[Any]]):
    """N grid worlds of one size, which step together.

    Observations [N, 3 W H + 2] are those of `FullGridEnv`, rewards float64 [N]. Environment i with
    seed s has the episodes of one MiniGrid environment that was reset with ``s + i``.

    Args:
        grid_shape: Width W and height H of the grid, cells.
        max_steps: Steps after which an episode is cut off.
        num_envs: Number of environments N.
        autoreset_mode: When an environment whose episode is over starts anew.
        layout_seed: Every episode starts from the layout of this seed; None for new ones.
    """

    def __init__(
        self,
        grid_shape: tuple[int, int],
        max_steps: int,
        num_envs: int,
        autoreset_mode: AutoresetMode,
        layout_seed: int | None,
    ) -> None:
        self.num_envs = num_envs
        self.grid_shape, self.max_steps, self.layout_seed = grid_shape, max_steps, layout_seed
        self.cells = grid_shape[0] * grid_shape[1]
        self.autoreset_mode = autoreset_mode
        self.metadata = {"autoreset_mode": autoreset_mode, "render_modes": []}
        size = self.sensors["carried"].slice.stop
        self.single_observation_space = spaces.Box(0, 255, (size,), np.uint8)
        self.single_action_space = spaces.Discrete(ACTIONS)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.steps = np.zeros(num_envs, dtype=np.int64)
        self._running = np.zeros(num_envs, dtype=bool)

    @property
    def sensors(self) -> dict[str, Sensor]:
        """The parts of the observation, by name."""
        return sensors_of(self.cells)

    @property
    def sensor_order(self) -> list[str]:
        """Names of the parts, in order."""
        return list(self.sensors)

    # What the two kinds fill in

    @abstractmethod
    def _start(self, index: int, seed: int | None) -> None:
        """Starts an episode in one environment."""

    @abstractmethod
    def _advance(self, actions: NDArray[np.int64]) -> tuple[NDArray[np.float64], Mask]:
        """Steps every environment -> rewards [N] and whether the rules ended the episode [N].

        `steps` are counted already; where the action is `DONE`, nothing changes.
        """

    @abstractmethod
    def observe(self) -> Bytes:
        """What all environments show now [N, n]."""

    @abstractmethod
    def get_state(self) -> States:
        """All that the coming episodes depend on, by name: arrays [N, ..]."""

    @abstractmethod
    def set_state(self, state: States) -> None:
        """Goes on from what `get_state` returned."""

    # The interaction

    def reset(
        self, *, seed: Seeds = None, options: dict[str, Any] | None = None
    ) -> tuple[Bytes, dict[str, Any]]:
        """Starts an episode in all environments, or in those of a mask.

        Args:
            seed: Environment i is seeded with ``seed + i``, or with ``seed[i]``; None: not seeded.
            options: ``{"reset_mask": mask}`` [N] leaves the other environments as they are.

        Raises:
            ValueError: The seeds or the mask do not fit the environments.
        """
        seeds = list_seeds(seed, self.num_envs)
        mask = check_mask((options or {}).get("reset_mask"), self.num_envs)
        self._start_episodes(mask, seeds)
        return self.observe(), self._info()

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[Bytes, NDArray[np.float64], Mask, Mask, dict[str, Any]]:
        """One step with actions [N].

        Raises:
            RuntimeError: An environment has no running episode, and does not start one by itself.
            ValueError: The actions are not N of the seven.
        """
        actions = self._check_actions(actions)
        stepped = self._running.copy()
        if not stepped.all():
            if self.autoreset_mode != AutoresetMode.NEXT_STEP:
                idle = np.flatnonzero(~stepped).tolist()
                raise RuntimeError(f"Call reset() first: no episode is running in {idle}.")
            self._start_episodes(~stepped, [None] * self.num_envs)
            actions = np.where(stepped, actions, DONE)
        self.steps += stepped
        rewards, terminated = self._advance(actions)
        truncated = stepped & (self.steps >= self.max_steps)
        over = terminated | truncated
        self._running &= ~over
        observation, info = self.observe(), self._info()
        if self.autoreset_mode == AutoresetMode.SAME_STEP and over.any():
            observation, info = self._restart(over, observation, info)
        return observation, rewards, terminated, truncated, info

    def restart(self, mask: Mask) -> Bytes:
        """Breaks off the episodes of a mask [N], starts new ones -> what all show [N, n]."""
        self._start_episodes(mask, [None] * self.num_envs)
        return self.observe()

    def _restart(
        self, over: Mask, observation: Bytes, info: dict[str, Any]
    ) -> tuple[Bytes, dict[str, Any]]:
        """Starts the episodes that are over anew, and keeps how they ended in the info."""
        final = np.full(self.num_envs, None, dtype=object)
        for index in np.flatnonzero(over):
            final[index] = observation[index]
        steps = {"step_count": info["step_count"], "_step_count": over.copy()}
        return self.restart(over), {
            **self._info(),
            "final_obs": final,
            "_final_obs": over.copy(),
            "final_info": steps,
            "_final_info": over.copy(),
        }

    def _start_episodes(self, mask: Mask, seeds: Sequence[int | None]) -> None:
        for index in np.flatnonzero(mask).tolist():
            self._start(index, seeds[index] if self.layout_seed is None else self.layout_seed)
        self.steps[mask] = 0
        self._running |= mask

    def _info(self) -> dict[str, Any]:
        return {"step_count": self.steps.copy(), "_step_count": np.ones(self.num_envs, dtype=bool)}

    def _check_actions(self, actions: NDArray[np.int64]) -> NDArray[np.int64]:
        actions = np.asarray(actions)
        if actions.shape != (self.num_envs,) or actions.min() < 0 or actions.max() >= ACTIONS:
            raise ValueError(f"Actions are {self.num_envs} integers from 0 to 6; got {actions}.")
        return actions.astype(np.int64)

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The value of an attribute, which is the same for every environment."""
        return (getattr(self, name),) * self.num_envs
