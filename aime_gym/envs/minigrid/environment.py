"""One MiniGrid environment, fully observed."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from aime_gym.envs.minigrid.cells import ACTIONS, Sensor, carried_bytes, sensors_of, visible_grid
from aime_gym.grid_ids import import_minigrid


def make_minigrid(env_id: str, **options: Any) -> Any:
    """An environment of MiniGrid, without wrappers.

    Args:
        env_id: Its own id, such as ``"MiniGrid-DoorKey-8x8-v0"``.
        **options: Passed to `gymnasium.make`.

    Raises:
        ModuleNotFoundError: MiniGrid is not installed.
        TypeError: It is no environment of MiniGrid.
    """
    import_minigrid()
    from minigrid.minigrid_env import MiniGridEnv

    env = gym.make(env_id, disable_env_checker=True, **options).unwrapped
    if not isinstance(env, MiniGridEnv):
        raise TypeError(f"{env_id} is no MiniGrid environment: it is a {type(env).__name__}.")
    return env


class FullGridEnv(gym.Env[NDArray[np.uint8], np.int64]):
    """A MiniGrid environment that shows the whole grid, and what the agent carries.

    Made by ``gym.make("FullGrid/MiniGrid-DoorKey-8x8-v0")``; ``FullGrid/`` goes in front of the id
    of any MiniGrid environment that is registered with Gymnasium. Levels, dynamics, rewards and
    seeds are MiniGrid's.

    | part of the observation | bytes | meaning |
    | --- | --- | --- |
    | grid | W x H x 3 | object, colour and state of cell (x, y), at ``3 * (x * H + y)``; \
the agent's cell is (10, 0, direction) |
    | carried | 2 | object and colour of what is carried; (1, 5) for nothing |

    `info["step_count"]` is the number of steps in the episode so far.

    Args:
        env_id: Id of the MiniGrid environment.
        layout_seed: Every episode starts from the layout of this seed; None for new ones.
        **options: Options of the MiniGrid environment, such as ``max_steps`` or ``render_mode``.

    Raises:
        ModuleNotFoundError: MiniGrid is not installed.
        TypeError: `env_id` is no environment of MiniGrid.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": ["human", "rgb_array"],
        "render_fps": 10,
    }

    def __init__(self, env_id: str, layout_seed: int | None = None, **options: Any) -> None:
        self.inner = make_minigrid(env_id, **options)
        self.inner.gen_obs = self._partial_view
        self.layout_seed = layout_seed
        self.render_mode = self.inner.render_mode
        size = self.sensors["carried"].slice.stop
        self.observation_space = spaces.Box(0, 255, (size,), np.uint8)
        self.action_space = spaces.Discrete(ACTIONS)

    @property
    def grid_shape(self) -> tuple[int, int]:
        """Width W and height H of the grid, cells."""
        return self.inner.width, self.inner.height

    @property
    def max_steps(self) -> int:
        """Steps after which an episode is cut off."""
        return int(self.inner.max_steps)

    @property
    def sensors(self) -> dict[str, Sensor]:
        """The parts of the observation, by name."""
        return sensors_of(self.inner.width * self.inner.height)

    @property
    def sensor_order(self) -> list[str]:
        """Names of the parts, in order."""
        return list(self.sensors)

    def _partial_view(self) -> dict[str, Any]:
        """Stands in for the agent's partial view, which takes MiniGrid most of its time."""
        inner = self.inner
        grid = visible_grid(inner).reshape(inner.width, inner.height, -1)
        return {"image": grid, "direction": inner.agent_dir, "mission": inner.mission}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Starts an episode."""
        super().reset(seed=seed)
        layout = self.layout_seed
        shown, info = self.inner.reset(seed=seed if layout is None else layout, options=options)
        return self._observation(shown), {**info, "step_count": self.inner.step_count}

    def step(self, action: np.int64) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Takes one step."""
        shown, reward, terminated, truncated, info = self.inner.step(int(action))
        info = {**info, "step_count": self.inner.step_count}
        return self._observation(shown), float(reward), bool(terminated), bool(truncated), info

    def _observation(self, shown: dict[str, Any]) -> NDArray[np.uint8]:
        carried = np.array(carried_bytes(self.inner), dtype=np.uint8)
        return np.concatenate([shown["image"].ravel(), carried])

    def render(self) -> Any:
        """A picture of the grid, where `render_mode` is ``"rgb_array"``."""
        return self.inner.render()

    def close(self) -> None:
        """Closes the window, if there is one."""
        self.inner.close()
