"""Speed of the environments beside dm_control, other ways to step them, and MuJoCo alone.

    python benchmarks/environments.py
    python benchmarks/environments.py --bodies walker cheetah --episodes 4

All paths take the same actions from the same seeds, so they compute the same physics. The ceilings
are `mujoco.rollout`, which steps the same states under the same actions without any Python, on one
thread for a single environment, and on all threads for the batch.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from timing import Seconds, print_table, ratio, save, seconds_of, shown

import aime_gym  # noqa: F401 - registers the ids
from aime_gym.envs.dm_control.setups import CONTROL_STEPS
from aime_gym.envs.dm_control.simulation import load_suite
from aime_gym.envs.dm_control.tasks import BODIES

PARTS = 4  # Of an episode that are measured; one more warms up.


class Suite:
    """dm_control's own environment, one control step at a time."""

    def __init__(self, body: str, task: str) -> None:
        self.repeat = BODIES[body].action_repeat
        self._env = self._make(body, task)

    def _make(self, body: str, task: str) -> Any:
        env = load_suite(body, task)
        env.physics._make_rendering_contexts = lambda: None  # Escape asks for them at a reset.
        return env

    def reset(self, seed: int) -> None:
        """Starts an episode."""
        self._env.task._random = np.random.RandomState(seed)
        self._env.reset()

    def run(self, actions: np.ndarray) -> None:
        """Takes actions [T, 64, A], or those of its first environments."""
        for action in actions[:, 0]:
            for _ in range(self.repeat):
                self._env.step(action)


class Shimmy(Suite):
    """The same through Shimmy."""

    def _make(self, body: str, task: str) -> Any:
        from shimmy.dm_control_compatibility import DmControlCompatibilityV0

        return DmControlCompatibilityV0(super()._make(body, task))

    def reset(self, seed: int) -> None:
        """Starts an episode."""
        self._env.reset(seed=seed)


class Single:
    """One of our environments, as `gymnasium.make` gives it, without its checks."""

    def __init__(self, env_id: str) -> None:
        self._env = gym.make(env_id).unwrapped

    def reset(self, seed: int) -> None:
        """Starts an episode."""
        self._env.reset(seed=seed)

    def run(self, actions: np.ndarray) -> None:
        """Takes actions [T, 64, A], or those of its first environments."""
        for action in actions[:, 0]:
            self._env.step(action)


class Vector:
    """A vector of them."""

    def __init__(self, env_id: str, num_envs: int, **options: Any) -> None:
        self.num_envs = num_envs
        self.env = gym.make_vec(env_id, num_envs=num_envs, **options)

    def reset(self, seed: int) -> None:
        """Starts an episode."""
        self.env.reset(seed=seed)

    def run(self, actions: np.ndarray) -> None:
        """Takes actions [T, 64, A], or those of its first environments."""
        for row in actions[:, : self.num_envs]:
            self.env.step(row)


class Raw:
    """MuJoCo alone, from where a vector of ours is; asked before that one steps."""

    def __init__(self, vector: Vector, threads: int) -> None:
        import mujoco
        from mujoco.rollout import Rollout

        self._vector, self.num_envs = vector, vector.num_envs
        simulation = vector.env.unwrapped.envs[0].simulation
        self._steps = simulation.substeps * simulation.action_repeat
        self._model = simulation.physics.model.ptr
        self._data = [mujoco.MjData(self._model) for _ in range(threads)]
        self._rollout = Rollout(nthread=threads if threads > 1 else 0)

    def reset(self, seed: int) -> None:
        """Nothing to do: the vector is reset."""

    def take_over(self, actions: np.ndarray) -> None:
        """Copies the vector's states and the actions that it is about to take."""
        model = self._model
        states = np.stack(self._vector.env.unwrapped.call("get_physics_state"))
        physics = states[:, : model.nq + model.nv + model.na]
        self._states = np.concatenate([np.zeros((self.num_envs, 1)), physics], axis=1)
        taken = actions[:, : self.num_envs].swapaxes(0, 1)
        self._controls = np.repeat(taken, self._steps, axis=1).astype(np.float64)
        rows = self.num_envs, self._controls.shape[1]
        self._outputs = (
            np.empty((*rows, self._states.shape[1])),
            np.empty((*rows, model.nsensordata)),
        )

    def run(self, actions: np.ndarray) -> None:
        """Takes actions [T, 64, A], or those of its first environments."""
        state, sensordata = self._outputs
        self._rollout.rollout(
            self._model,
            self._data,
            self._states,
            self._controls,
            nstep=self._controls.shape[1],
            state=state,
            sensordata=sensordata,
        )


class EnvPool(Vector):
    """EnvPool's own copy of the suite, which has no action repeat of ours."""

    def __init__(self, body: str, task: str, num_envs: int, threads: int) -> None:
        import envpool

        self.num_envs, self.repeat = num_envs, BODIES[body].action_repeat
        name = "".join(part.capitalize() for part in f"{body}_{task}".split("_"))
        self.env = envpool.make_gymnasium(f"{name}-v1", num_envs=num_envs, num_threads=threads)

    def reset(self, seed: int) -> None:
        """Starts an episode."""
        self.env.reset()

    def run(self, actions: np.ndarray) -> None:
        """Takes actions [T, 64, A], or those of its first environments."""
        for row in actions[:, : self.num_envs].astype(np.float64):
            for _ in range(self.repeat):
                self.env.step(row)


def make_paths(body: str, task: str, threads: int) -> dict[str, Any]:
    """Path -> what runs it; the ceilings come before what they are measured against."""
    env_id = f"AIME/{body}-{task}-mdp"
    one = Vector(env_id, 1, num_threads=1)
    many = Vector(env_id, 64, num_threads=threads)
    paths: dict[str, Any] = {
        "raw, 1": Raw(one, 1),
        "ours, 1": one,
        "ours, single": Single(env_id),
        "dm_control": Suite(body, task),
        "Shimmy": Shimmy(body, task),
        "raw, 64": Raw(many, threads),
        "ours, 64": many,
        "ours, 8": Vector(env_id, 8, num_threads=threads),
        "AsyncVectorEnv, 8": Vector(env_id, 8, vectorization_mode="async"),
    }
    optional: dict[str, Callable[[], Any]] = {
        "EnvPool, 64": lambda: EnvPool(body, task, 64, threads)
    }
    for name, make in optional.items():
        try:
            paths[name] = make()
        except Exception as error:  # Not installed, or without this task.
            print(f"  without {name}: {type(error).__name__}")
    return paths


def measure(body: str, task: str, threads: int, episodes: int) -> Seconds:
    """Path -> seconds per control step of one environment, a value for every measured part."""
    paths = make_paths(body, task, threads)
    repeat = BODIES[body].action_repeat
    steps = CONTROL_STEPS // repeat // (PARTS + 1)
    space = paths["ours, single"]._env.action_space
    seconds: Seconds = {name: [] for name in paths}
    for episode in range(episodes):
        generator = np.random.default_rng(episode)
        for path in paths.values():
            path.reset(episode)
        for part in range(PARTS + 1):
            actions = generator.uniform(space.low, space.high, (steps, 64, *space.shape))
            actions = actions.astype(np.float32)
            for path in paths.values():
                if isinstance(path, Raw):
                    path.take_over(actions)
            for name, path in paths.items():
                took = seconds_of(lambda path=path, actions=actions: path.run(actions))
                if part:
                    count = steps * repeat * getattr(path, "num_envs", 1)
                    seconds[name].append(took / count)
    for path in paths.values():
        if isinstance(path, Vector):
            path.env.close()
    return seconds


def summary(seconds: Seconds) -> dict[str, Any]:
    """Rates, and ratios of speed."""
    found = {
        "control_steps_per_second": {
            name: 1 / float(np.median(values)) for name, values in seconds.items()
        },
        "64 of raw": ratio(seconds, "raw, 64", "ours, 64"),
        "single of raw": ratio(seconds, "raw, 1", "ours, single"),
        "to dm_control": {name: ratio(seconds, "dm_control", name) for name in seconds},
    }
    return found


def main() -> None:
    """Measures, prints a table, and writes JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bodies", nargs="+", choices=[*BODIES], default=[*BODIES])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--episodes", type=int, default=2)
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    options = parser.parse_args()
    results = {}
    for body in options.bodies:
        task = [name for name, task in BODIES[body].tasks.items() if task.reward is None][-1]
        print(f"{body}-{task}")
        found = summary(measure(body, task, options.threads, options.episodes))
        results[f"{body}-{task}"] = found
        print_table(
            ("path", "control steps/s", "times dm_control"),
            [
                (name, f"{rate:,.0f}", shown(found["to dm_control"][name]))
                for name, rate in found["control_steps_per_second"].items()
            ],
        )
        print(f"of raw: 64 {shown(found['64 of raw'])}, one {shown(found['single of raw'])}\n")
    save("environments", vars(options), results, options.out)


if __name__ == "__main__":
    main()
