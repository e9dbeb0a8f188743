"""Embodiment data at the paper's scale, made anew from small parts.

A body's own experience has five sources:

    recorded     episodes that are bundled: what the demonstrators themselves did while they learned
    random       episodes of uniform and of correlated random actions
    snapshots    episodes of policies from while they learned, with sampled actions
    branches     short trajectories from states of all these, see `branches`
    pushed       branches that start with other velocities

The parts are bundled, the data are not: a recipe makes them in minutes, the same ones from the same
seed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from tqdm import tqdm

from aime_gym.card import card_of_env
from aime_gym.datasets.branches import NUM_ENVS, branch, correlated_noise
from aime_gym.datasets.coverage import sensor_rows
from aime_gym.datasets.dataset import Dataset
from aime_gym.datasets.load import load_dataset
from aime_gym.rollout import AnyVectorEnv, Policy, RandomPolicy, State, make_envs, rollout
from aime_gym.trajectory import Trajectory
from aime_gym.wrappers import action_repeat

SNAPSHOTS = Path(__file__).parents[1] / "assets" / "snapshots"
BRANCH_STEPS = 49

LoadPolicy = Callable[[Path], Policy]
"""The path of a snapshot -> what acts."""


@dataclass(frozen=True)
class EmbodimentRecipe:
    """How a body's embodiment data are made.

    Attributes:
        name: The dataset's name.
        env_id: Where the body acts; its reward is not kept.
        teachers: Folders of snapshots, such as ``"walker-walk"``.
        description: One sentence.
        recorded: A bundled dataset with physics states; None for none.
        rows: Observations in all, about, the recorded and the pushed ones not counted.
        random_share: Share of the rows with random actions.
        branch_share: Share of the rows in branches; snapshots make the rest.
        pushed_rows: Rows in pushed branches.
        pushed_steps: Steps of each of these; after many, a pushed body moves like any other.
    """

    name: str
    env_id: str
    teachers: tuple[str, ...]
    description: str
    recorded: str | None = None
    rows: int = 1_000_000
    random_share: float = 0.1
    branch_share: float = 0.5
    pushed_rows: int = 0
    pushed_steps: int = 31

    def __post_init__(self) -> None:
        if self.rows < 1 or min(self.random_share, self.branch_share, self.pushed_rows) < 0:
            raise ValueError(f"Rows are at least 1, shares and pushed rows at least 0: {self}.")
        if self.pushed_steps < 1:
            raise ValueError(f"Pushed branches have at least one step, not {self.pushed_steps}.")
        if self.random_share + self.branch_share > 1:
            raise ValueError("random_share and branch_share are together at most 1.")


WALKER_MIX = EmbodimentRecipe(
    "walker-mix",
    "AIME/walker-run-mdp",
    (
        "walker-stand",
        "walker-walk",
        "walker-flip",
        "walker-flipbackward",
        "walker-runbackward",
        "walker-jump",
    ),
    "A walker's own experience without running forward, which stays new to its world model.",
    recorded="walker-mix-small",
)

RECIPES = {
    "walker-mix": WALKER_MIX,
    "walker-mix-pushed": dataclasses.replace(
        WALKER_MIX,
        name="walker-mix-pushed",
        description="walker-mix, and branches whose bodies were pushed to other velocities.",
        pushed_rows=300_000,
    ),
    "walker-mix-moments": dataclasses.replace(
        WALKER_MIX,
        name="walker-mix-moments",
        description="walker-mix, and moments after pushes to other velocities, for the dynamics of "
        "a body alone: too short for windows of a world model.",
        pushed_rows=1_200_000,
        pushed_steps=2,
    ),
    "cheetah-mix": EmbodimentRecipe(
        "cheetah-mix",
        "AIME/cheetah-run-mdp",
        ("cheetah-run", "cheetah-runbackward", "cheetah-flip", "cheetah-flipbackward"),
        "A cheetah's own experience, learning all four tasks: imitating them is not zero-shot.",
    ),
}


def make_embodiment(
    recipe: EmbodimentRecipe,
    load_policy: LoadPolicy,
    *,
    seed: int = 0,
    physics: bool = False,
    progress_bar: bool = False,
    command: str | None = None,
) -> Dataset:
    """Makes embodiment data.

    Args:
        recipe: What to make.
        load_policy: Loads a snapshot.
        seed: Same recipe and seed, same data.
        physics: Whether to keep physics states, from which pictures can be drawn.
        progress_bar: Show the progress.
        command: The shell command that does the same, for the card.

    Raises:
        FileNotFoundError: A teacher has no snapshots.
        ValueError: A snapshot is of another body.
    """
    sources = _recorded(recipe) | _acted(recipe, load_policy, seed, progress_bar)
    about = card_of_env(
        recipe.env_id,
        recipe.name,
        description=recipe.description,
        seed=seed,
        source="user",
        command=command,
        action_repeat=_from_env(recipe.env_id, action_repeat),
    )
    whole = Dataset([t for found in sources.values() for t in found], about)
    branched = {
        "branches": (BRANCH_STEPS, recipe.rows * recipe.branch_share),
        "pushed": (recipe.pushed_steps, recipe.pushed_rows),
    }
    for number, (name, (steps, rows)) in enumerate(branched.items(), 1):
        found = branch(
            whole,
            recipe.env_id,
            round(rows / (steps + 1)),
            seed=seed + number,
            length=steps,
            pushed=name == "pushed",
            progress_bar=progress_bar,
        )
        sources[name] = list(found)
    everything = (_stripped(t, physics) for found in sources.values() for t in found)
    parts = tuple(f"{name}: {len(found)}" for name, found in sources.items())
    return Dataset(everything, dataclasses.replace(about, parts=parts))


def _recorded(recipe: EmbodimentRecipe) -> dict[str, list[Trajectory]]:
    """The bundled episodes, by their dataset's name."""
    name = recipe.recorded
    return {} if name is None else {name: list(load_dataset(name, progress_bar=False))}


def _acted(
    recipe: EmbodimentRecipe, load_policy: LoadPolicy, seed: int, progress_bar: bool
) -> dict[str, list[Trajectory]]:
    """Episodes of random actions and of snapshots, by who acted."""
    snapshots = [path for teacher in recipe.teachers for path in find_snapshots(teacher)]
    rows = 1 + _from_env(recipe.env_id, lambda env: int(env.envs[0].max_steps))
    episodes = recipe.rows * recipe.random_share / rows
    share = 1 - recipe.random_share - recipe.branch_share
    each = max(1, round(recipe.rows * share / rows / max(1, len(snapshots))))
    env = make_envs(recipe.env_id, min(NUM_ENVS, each))
    try:
        space = env.single_action_space
        assert isinstance(space, spaces.Box)
        acting: dict[str, tuple[Policy, int]] = {
            "random": (RandomPolicy(space, seed), round(episodes / 2)),
            "correlated": (CorrelatedPolicy(space, rows - 1, seed), round(episodes / 2)),
        }
        for path in snapshots:
            policy = _check_fit(load_policy(path), path, env)
            acting[f"{path.parent.name} at {int(path.stem)}"] = policy, each
        found = {}
        bar = tqdm(acting.items(), "acting", unit="policy", disable=not progress_bar)
        for number, (name, (policy, count)) in enumerate(bar):
            first = seed + 10_000 * number
            found[name] = list(rollout(policy, env, count, first, deterministic=False, record=True))
    finally:
        env.close()
    return found


def _from_env(env_id: str, read: Callable[[Any], int]) -> int:
    """What a function reads off an environment."""
    env = make_envs(env_id, 1)
    try:
        return read(env)
    finally:
        env.close()


def find_snapshots(teacher: str) -> list[Path]:
    """The bundled snapshots of a teacher, in the order of learning.

    Raises:
        FileNotFoundError: There are none; the message lists the teachers that there are.
    """
    found = sorted((SNAPSHOTS / teacher).glob("*.zip"))
    if not found:
        known = sorted(path.name for path in SNAPSHOTS.glob("*"))
        raise FileNotFoundError(
            f"There are no snapshots of {teacher!r} in {SNAPSHOTS}: there are those of "
            f"{', '.join(known) or 'nobody'}."
        )
    return found


class CorrelatedPolicy:
    """Correlated noise as actions; every environment has a scale and a correlation of its own.

    Args:
        action_space: The limits.
        steps: Steps per episode.
        seed: Seed of the policy's own generator.
    """

    def __init__(self, action_space: spaces.Box, steps: int, seed: int) -> None:
        self.action_space = action_space
        self._steps = steps
        self._generator = np.random.default_rng(seed)

    def predict(
        self,
        observation: NDArray[np.float32],
        state: State | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[np.float32], State | None]:
        """The next actions [N, A]; the state holds those of the whole episode, and the time."""
        low, high = self.action_space.low, self.action_space.high
        if state is None:
            shape = (self._steps, len(observation), *low.shape)
            noise = 2 * correlated_noise(shape, self._generator) * (high - low) / 2
            state = (np.clip(noise + (high + low) / 2, low, high), np.zeros(1, dtype=int))
        actions, time = state
        now = actions[int(time[0]) % self._steps].astype(np.float32)
        return now, (actions, time + 1)


def _stripped(trajectory: Trajectory, physics: bool) -> Trajectory:
    """Sensors and actions alone."""
    states = trajectory.physics_states if physics else None
    return dataclasses.replace(trajectory, rewards=None, physics_states=states)


def _check_fit(policy: Policy, path: Path, env: AnyVectorEnv) -> Policy:
    """The policy, if it is of the environments' body."""
    for name in ("observation_space", "action_space"):
        own = getattr(policy, name, None)
        needed = getattr(env, f"single_{name}").shape
        if own is not None and own.shape != needed:
            what = name.replace("_space", "s")
            raise ValueError(
                f"Snapshot {path} is of another body: its {what} have shape {own.shape}, those "
                f"needed {needed}."
            )
    return policy


def rows_by_source(dataset: Dataset) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Source -> sensor rows [N, n] of data from `make_embodiment`, by the counts in its card."""
    first = 0
    for part in dataset.card.parts:
        name, _, count = part.rpartition(": ")
        if int(count) == 0:  # Few rows, many sources.
            continue
        chosen = dataset[first : first + int(count)]
        first += int(count)
        yield name, sensor_rows(chosen)
