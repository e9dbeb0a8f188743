"""Many bodies at once: physics in a few threads, rewards and observations over the whole batch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from aime_gym.envs.dm_control.batch import SimulationBatch
from aime_gym.envs.dm_control.environment import RENDER_SIZE, DMControlEnv
from aime_gym.envs.resets import Mask, Seeds, check_mask, list_seeds
from aime_gym.envs.time_limit import SpecWithLimit
from aime_gym.trajectory import IMAGE_SHAPE

STATE_BYTES = 1_000_000  # Of an environment beside its model, about.


class DMControlVectorEnv(gym.vector.VectorEnv[NDArray[Any], NDArray[np.float32], NDArray[Any]]):
    """`num_envs` times the same `DMControlEnv`: equal to each of them to the bit, but faster.

    Made by ``gym.make_vec("AIME/<body>-<task>-<setup>", num_envs=8)``. MuJoCo steps the physics in
    threads of its own; observations and rewards are computed for all at once, and pictures are
    drawn one after the other in the calling thread. Results do not depend on `num_threads`.

    `info["sensors"]` holds every vector sensor under its name, float32 [N, n]. Beside each stands
    ``_<name>`` [N], the environments for which it is new.

    Args:
        body: A suite domain, such as ``"walker"``.
        task: One of the body's tasks.
        setup: ``"mdp"``, ``"lpomdp"`` or ``"visual"``.
        num_envs: Number of environments N.
        action_repeat: Control steps per agent step; None for the body's own.
        render_mode: None or ``"rgb_array"``.
        render_width: Width of the pictures from `render`, in pixels.
        render_height: Height of the pictures from `render`, in pixels.
        camera_id: Camera of the pictures from `render`; None for the one that takes the
            observations, -1 for a free one.
        drawing: ``"exact"`` draws as dm_control does, ``"fast"`` two to four times as fast on a
            processor, with coarser shadows and jagged edges.
        num_threads: Threads that step the physics; None for one per core, at most one per
            environment.
        autoreset_mode: When an environment whose episode is over starts anew: in the next step, in
            the same step (its last observation and info are ``info["final_obs"]`` and
            ``info["final_info"]``), or never by itself (``options={"reset_mask": mask}``).
        max_episode_steps: Agent steps after which an episode is cut off; None for the episode's
            1,000 control steps.

    Raises:
        ValueError: Something of this does not exist, and the message lists what does; or there is
            not enough memory for so many.
    """

    spec = SpecWithLimit()

    def __init__(
        self,
        body: str,
        task: str,
        setup: str,
        num_envs: int = 1,
        action_repeat: int | None = None,
        render_mode: str | None = None,
        render_width: int = RENDER_SIZE,
        render_height: int = RENDER_SIZE,
        camera_id: int | None = None,
        drawing: str = "exact",
        num_threads: int | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
    ) -> None:
        self.num_envs = _at_least_one("num_envs", num_envs)
        threads = _count_cores() if num_threads is None else num_threads
        self.num_threads = min(num_envs, _at_least_one("num_threads", threads))
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        make = partial(
            DMControlEnv,
            body,
            task,
            setup,
            action_repeat,
            render_mode,
            render_width,
            render_height,
            camera_id,
            drawing,
        )
        first = make()
        _check_memory(num_envs, first.simulation.physics.model.ptr.nbuffer + STATE_BYTES)
        self._envs = [first, *(make() for _ in range(num_envs - 1))]
        self.max_steps = first.max_steps
        if max_episode_steps is not None:
            limit = _at_least_one("max_episode_steps", max_episode_steps)
            self.max_steps = min(limit, first.max_steps)
        self.render_mode = render_mode
        self.metadata = {**first.metadata, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = first.observation_space
        self.single_action_space = first.action_space
        self.observation_space = batch_space(first.observation_space, num_envs)
        self.action_space = batch_space(first.action_space, num_envs)
        self._batch = SimulationBatch([e.simulation for e in self._envs], self.num_threads)
        self._images = np.zeros((num_envs, *IMAGE_SHAPE), dtype=np.uint8)
        self._steps = np.zeros(num_envs, dtype=int)
        self._running = np.zeros(num_envs, dtype=bool)
        self._pool: ThreadPoolExecutor | None = None
        self._pool_process = 0

    def __getstate__(self) -> dict[str, Any]:
        """For `copy.deepcopy` and `pickle`: everything but threads."""
        self._batch.write_back()
        return {**vars(self), "_pool": None}

    @property
    def envs(self) -> list[DMControlEnv]:
        """The single environments as they are now; what is changed in them counts from then on.

        Environments that were asked for before a step do not follow it: ask again.
        """
        self._batch.hand_over(models=True)
        return self._envs

    # The interaction

    def reset(
        self, *, seed: Seeds = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Starts an episode in all environments, or in those of a mask.

        Args:
            seed: Environment i is seeded with ``seed + i``, or with ``seed[i]``; None: not seeded.
            options: ``{"reset_mask": mask}`` [N] leaves the other environments as they are;
                ``{"physics_states": states}`` [N, P] starts from these states, each as
                `DMControlEnv.get_physics_state` gives it.

        Raises:
            ValueError: The seeds, the mask or the states do not fit the environments.
        """
        seeds, options = list_seeds(seed, self.num_envs), options or {}
        mask = check_mask(options.get("reset_mask"), self.num_envs)
        self._start_episodes(mask, seeds)
        if options.get("physics_states") is not None:
            self._set_physics_states(mask, options["physics_states"])
        return self._observe(mask)

    def _set_physics_states(self, mask: Mask, states: NDArray[np.float64]) -> None:
        if len(states) != self.num_envs:
            raise ValueError(f"There are {self.num_envs} environments, but {len(states)} states.")

        def restore(index: int) -> None:
            self._envs[index].set_physics_state(states[index])
            self._batch.refresh(index)

        self._for_each(mask, restore)

    def step(
        self, actions: NDArray[np.float32]
    ) -> tuple[NDArray[Any], NDArray[np.float64], Mask, Mask, dict[str, Any]]:
        """One agent step with actions [N, A], which are clipped.

        Raises:
            RuntimeError: An environment has no running episode, and does not start one by itself.
            ValueError: The actions have another shape, or are not finite.
        """
        clipped = self._envs[0].clip(actions, (self.num_envs,))
        stepped = self._running.copy()
        if not stepped.all() and not (stepped | self._resets_in_step()).all():
            raise RuntimeError(
                f"Call reset() before step(): no episode is running in the environments "
                f"{np.flatnonzero(~stepped).tolist()}."
            )
        if stepped.any():
            self._batch.step(stepped, clipped)
        self._start_episodes(~stepped, [None] * self.num_envs)
        self._steps += stepped
        truncated = self._steps >= self.max_steps
        self._running = ~truncated
        rewards = np.where(stepped, self._batch.rewards(), 0.0)
        observation, info = self._observe(np.ones(self.num_envs, dtype=bool))
        if self.autoreset_mode == AutoresetMode.SAME_STEP and truncated.any():
            observation, info = self._restart(truncated, observation, info)
        return observation, rewards, np.zeros(self.num_envs, dtype=bool), truncated, info

    def _resets_in_step(self) -> Mask:
        """The environments which a step of NEXT_STEP starts anew: those that were reset before."""
        next_step = self.autoreset_mode == AutoresetMode.NEXT_STEP
        return np.array([next_step and env.simulation.was_reset for env in self._envs])

    def _start_episodes(self, mask: Mask, seeds: Sequence[int | None]) -> None:
        def start(index: int) -> None:
            self._envs[index].start_episode(seeds[index])
            self._batch.refresh(index)

        if not mask.any():
            return
        self._for_each(mask, start)
        self._steps[mask] = 0
        self._running = self._running | mask

    def _restart(
        self, over: Mask, observation: NDArray[Any], info: dict[str, Any]
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Starts the episodes that are over anew, and keeps how they ended in the info."""
        final = np.full(self.num_envs, None, dtype=object)
        for index in np.flatnonzero(over):
            final[index] = observation[index]
        final_info = {"sensors": _masked(info["sensors"], over), "_sensors": over.copy()}
        self._start_episodes(over, [None] * self.num_envs)
        observation, info = self._observe(over)
        everything = np.ones(self.num_envs, dtype=bool)
        return observation, {
            "sensors": _masked(info["sensors"], everything),
            "_sensors": everything,
            "final_obs": final,
            "_final_obs": over.copy(),
            "final_info": final_info,
            "_final_info": over.copy(),
        }

    def _observe(self, new: Mask) -> tuple[NDArray[Any], dict[str, Any]]:
        """What all environments show, the masked ones anew."""
        sensors = self._batch.sensors()
        info = {"sensors": _masked(sensors, new), "_sensors": new.copy()}
        if self._envs[0].setup != "visual":
            return self._envs[0].select(sensors), info
        self._batch.write_back(new)
        for index in np.flatnonzero(new):
            self._images[index] = self._envs[index].render_image()
        return self._images.copy(), info

    # Threads

    def _for_each(self, mask: Mask, work: Callable[[int], None]) -> None:
        """Does the work for the indices of a mask, in threads where there is more than one."""
        indices = np.flatnonzero(mask).tolist()
        if self.num_threads == 1 or len(indices) < 2:
            _do_all(indices, work)
            return
        pool = self._get_pool()
        shared = iter(indices)  # A thread takes the next index as soon as it is free.
        helpers = [
            pool.submit(_do_all, shared, work)
            for _ in range(min(self.num_threads, len(indices)) - 1)
        ]
        try:
            _do_all(shared, work)
        finally:
            for helper in helpers:
                helper.result()

    def _get_pool(self) -> ThreadPoolExecutor:
        """The threads; new ones in a process that was forked, as a fork does not copy threads."""
        if self._pool is None or self._pool_process != os.getpid():
            self._pool = ThreadPoolExecutor(self.num_threads - 1, "aime-gym-physics")
            self._pool_process = os.getpid()
        return self._pool

    # What SyncVectorEnv offers as well

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """A method's results, or an attribute's values, in every environment."""
        self._batch.hand_over(models=False)
        attributes = [getattr(env, name) for env in self._envs]
        return tuple(
            attribute(*args, **kwargs) if callable(attribute) else attribute
            for attribute in attributes
        )

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """An attribute's values in every environment."""
        return self.call(name)

    def render(self) -> tuple[Any, ...]:
        """The picture [render_height, render_width, 3] of every environment, or Nones."""
        return self.call("render")

    def close_extras(self) -> None:
        """Ends the threads and frees the graphics memory."""
        if self._pool is not None and self._pool_process == os.getpid():
            self._pool.shutdown()
        self._pool = None
        self._batch.close()
        for env in self._envs:
            env.close()


def _do_all(indices: Iterable[int], work: Callable[[int], None]) -> None:
    for index in indices:
        work(index)


def _masked(sensors: dict[str, Any], mask: Mask) -> dict[str, Any]:
    """The sensors, each with its ``_name`` mask beside it."""
    named = {name: values for name, values in sensors.items() if name[0] != "_"}
    return named | dict.fromkeys([f"_{name}" for name in named], mask.copy())


def _check_memory(num_envs: int, each: int) -> None:
    """A ValueError where so many environments of `each` bytes are more than there is room for."""
    available = _available_memory()
    if available is not None and num_envs * each > available:
        raise ValueError(
            f"{num_envs:,} environments need about {num_envs * each / 1e9:.1f} GB of memory; "
            f"available are {available / 1e9:.1f} GB, enough for {available // each:,}."
        )


def _available_memory() -> int | None:
    """Bytes that this machine can still give, where it tells."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    sizes = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return 1024 * int(sizes[0]) if sizes else None


def _count_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _at_least_one(name: str, number: int) -> int:
    if number < 1:
        raise ValueError(f"{name} is at least 1; got {number}.")
    return number
