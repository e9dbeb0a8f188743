"""The format of iMuJoCo's published datasets: one .npz file per variant.

    sac-hopper-massdec_25_leggeom.npz
        data  [N * 1000, n + A + 1 or 2]    rows of time steps, in N blocks of 1,000

    row t     o_t [n] | a_t [A] | r_t, in some files | done_t

A block starts with a new episode, and may hold several: a hopper or a walker that falls starts
again. ``done`` is 1 in an episode's last row; the last episode of a block may be cut without one.

What an episode's last action led to is in no row. A trajectory of an episode with n rows has n
observations and n - 1 actions, and none is terminated. The last row stays in its `extras`, under
``"rows"``, as do episodes of a single row that follow: reading and writing lose nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aime_gym.card import NO_LICENSE, Card, card_of_env
from aime_gym.datasets.dataset import Dataset
from aime_gym.datasets.npz import open_npz
from aime_gym.files import atomic_write
from aime_gym.ids import body_of
from aime_gym.imujoco_ids import EPISODE_STEPS, NAMESPACE, ROBOTS, Robot, find_body, inner_name
from aime_gym.rollout import Policy, make_envs, rollout
from aime_gym.suggest import did_you_mean
from aime_gym.trajectory import OBSERVATION, Trajectory
from aime_gym.wrappers import action_repeat

KEY, ROWS, PREFIX = "data", "rows", "sac-"
PUBLISHED_VERSION = "-v3"  # Of the environments that the published data name.

Array = NDArray[Any]
Name = str | os.PathLike[str]


def find_robot(env_name: str) -> Robot:
    """The robot of ``"Hopper-v3"``, ``"iMuJoCo/hopper-massdec_25_leggeom"``, or ``"hopper"``.

    Raises:
        ValueError: There is no such environment; the message says which there are.
    """
    published = {f"{robot.published_env}{PUBLISHED_VERSION}": robot for robot in ROBOTS.values()}
    start, _, version = env_name.rpartition("-v")
    if version.isdigit() and f"{start}{PUBLISHED_VERSION}" in published:
        return published[f"{start}{PUBLISHED_VERSION}"]
    if "-v" in env_name:
        raise ValueError(
            f"There is no environment {env_name!r}: {did_you_mean(env_name, published)}there are "
            f"{', '.join(published)}, and {NAMESPACE}/<variant>."
        )
    return ROBOTS[find_body(inner_name(env_name) or env_name).robot]


def variant_of_file(path: Name) -> str:
    """The variant that a file's name says: ``sac-<variant>.npz`` or ``<variant>.npz``.

    Raises:
        ValueError: There is no such variant.
    """
    return find_body(Path(path).stem.removeprefix(PREFIX)).name


class Blocks(NamedTuple):
    """What a file holds, in N blocks of L rows.

    Attributes:
        rows: All columns [N, L, n + A + 1 or 2].
        observations: [N, L, n].
        actions: [N, L, A].
        rewards: [N, L]; None where the file has none.
        done: Whether an episode ends with the row [N, L].
    """

    rows: Array
    observations: Array
    actions: Array
    rewards: Array | None
    done: NDArray[np.bool_]


def read_blocks(path: Name, robot: Robot) -> Blocks:
    """Reads a published file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged or truncated, or its rows are not those of the robot.
    """
    size, actions = robot.observation_size, robot.action_size
    with open_npz(path) as file:
        data = np.asarray(file[KEY])
    widths = (size + actions + 1, size + actions + 2)
    if data.ndim != 2 or data.shape[1] not in widths or data.dtype.kind != "f":
        raise ValueError(
            f"{path} is no dataset of {robot.name}: its rows should be {size} observations, "
            f"{actions} actions, perhaps a reward, and done, {widths[0]} or {widths[1]} floats in "
            f"all; it has {data.dtype} {list(data.shape)}."
        )
    if not len(data) or len(data) % EPISODE_STEPS:
        raise ValueError(
            f"{path} is not whole: it has {len(data)} rows, and blocks have {EPISODE_STEPS:,}."
        )
    blocks = data.reshape(-1, EPISODE_STEPS, data.shape[1])
    return Blocks(
        rows=blocks,
        observations=blocks[..., :size],
        actions=blocks[..., size : size + actions],
        rewards=blocks[..., -2] if data.shape[1] == widths[1] else None,
        done=blocks[..., -1] > 0.5,
    )


# As datasets


def read_imujoco_npz(path: Name, variant: str | None = None) -> Dataset:
    """Reads a published file as trajectories, one per episode.

    Args:
        path: ``sac-<variant>.npz``.
        variant: The body; None for that of the file's name.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: There is no such variant, the file is damaged or truncated, or its rows are not
            those of the variant's robot.
    """
    name = variant or variant_of_file(path)
    env_id = f"{NAMESPACE}/{name}"
    blocks = read_blocks(path, ROBOTS[find_body(name).robot])
    card = Card(
        name=f"{PREFIX}{name}",
        body=body_of(env_id),
        env_id=env_id,
        description=f"A SAC policy's episodes of {name}, in iMuJoCo's published layout.",
        license=NO_LICENSE,
    )
    return Dataset(_episodes(blocks, path), card)


def _episodes(blocks: Blocks, path: Name) -> Iterator[Trajectory]:
    for index, (rows, done) in enumerate(zip(blocks.rows, blocks.done, strict=True)):
        ends = np.union1d(np.flatnonzero(done) + 1, EPISODE_STEPS)
        starts = np.concatenate([[0], ends[:-1]])
        long = ends - starts > 1  # A single row is no trajectory: it stays with the one before.
        if not long[0]:
            raise ValueError(f"{path} has an episode of one row at the start of block {index}.")
        following = [*starts[long][1:], EPISODE_STEPS]
        for start, end, after in zip(starts[long], ends[long], following, strict=True):
            rewards = blocks.rewards
            yield Trajectory(
                sensors={OBSERVATION: blocks.observations[index, start:end]},
                actions=blocks.actions[index, start : end - 1],
                rewards=None if rewards is None else rewards[index, start : end - 1],
                extras={ROWS: rows[end - 1 : after]},
            )


def write_imujoco_npz(dataset: Dataset, path: Name) -> Path:
    """Writes trajectories in the published layout, as ``sac-<variant>.npz`` is.

    Episodes follow one another until a block is full; the last one is cut there, and a last block
    that is not full is left out.

    Args:
        dataset: Trajectories with actions, of one variant; where all have rewards these are
            written, too.
        path: A new ``.npz`` file.

    Raises:
        FileExistsError: The file is there already.
        ValueError: A trajectory has no actions, or all together have less than 1,000 steps.
    """
    target = Path(path)
    if target.exists():
        raise FileExistsError(f"{target} is there already; choose another file.")
    with_rewards = all(trajectory.rewards is not None for trajectory in dataset)
    blocks = list(_fill_blocks(_rows(each, with_rewards) for each in dataset))
    if not blocks:
        raise ValueError(
            f"{dataset.card.name!r} has {dataset.num_steps} steps; a block has {EPISODE_STEPS:,}."
        )
    with atomic_write(target) as file:
        np.savez_compressed(file, data=np.concatenate(blocks))
    return target


def _rows(trajectory: Trajectory, with_rewards: bool) -> Array:
    """A trajectory as rows of the file; the last observation has none but in the extras."""
    if trajectory.actions is None:
        raise ValueError("The published layout has actions, and a trajectory has none.")
    observations = trajectory.sensors[OBSERVATION][:-1]
    columns = [observations, trajectory.actions]
    if with_rewards:
        assert trajectory.rewards is not None
        columns.append(trajectory.rewards[:, None])
    rows = np.column_stack([*columns, np.zeros(len(observations))]).astype(observations.dtype)
    if ROWS in trajectory.extras:
        return np.concatenate([rows, trajectory.extras[ROWS]])
    rows[-1, -1] = trajectory.terminated or trajectory.truncated
    return rows


def _fill_blocks(episodes: Iterator[Array]) -> Iterator[Array]:
    """Episodes -> full blocks, each of which starts with a new episode."""
    parts: list[Array] = []
    room = EPISODE_STEPS
    for rows in episodes:
        parts.append(rows[:room])
        room -= len(parts[-1])
        if not room:
            yield np.concatenate(parts)
            parts, room = [], EPISODE_STEPS


def collect_blocks(
    policy: Policy, env_id: str, blocks: int, *, seed: int, name: str, **card: Any
) -> Dataset:
    """Runs a policy's best actions until so many blocks of the published layout are full.

    Args:
        policy: Anything with Stable-Baselines3's `predict`.
        env_id: The environment.
        blocks: How many blocks of 1,000 steps.
        seed: Episode i is reset with ``seed + i``.
        name: The dataset's name.
        **card: Further fields of its card.

    Returns:
        The episodes, whole ones: `write_imujoco_npz` makes exactly these blocks of them.
    """
    episodes: list[Trajectory] = []
    room = EPISODE_STEPS
    env = make_envs(env_id, 1)
    try:
        for episode in rollout(policy, env, sys.maxsize, seed):
            episodes.append(episode)
            room -= episode.num_steps
            if room <= 0:
                blocks, room = blocks - 1, EPISODE_STEPS
            if blocks <= 0:
                break
        held = action_repeat(env)
    finally:
        env.close()
    return Dataset(episodes, card_of_env(env_id, name, seed=seed, action_repeat=held, **card))


# As shots


class Sampler:
    """Draws whole blocks of published files, as the published sampler does.

    Args:
        env_name: The files' environment: ``"Hopper-v3"``, ``"HalfCheetah-v3"`` or
            ``"Walker2d-v3"``, or ``"iMuJoCo/<variant>"``.
        data_list: The files.
        portion: Which of each file's blocks there are, from a share to another one: (0, 0.8) to
            train and (0.8, 1) to test. Whole blocks are cut, so that portions that meet share none.
        generator: Draws files and blocks; an integer seeds a new one, None makes one from chance.
        convert: What samples are, of float32 arrays: `torch.from_numpy` makes tensors.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: There is no such environment, there are no files, or the portion is empty or
            not within 0 and 1.

    Example:
        >>> Sampler("Hopper-v3", files, portion=(0.0, 0.8)).sample(5)  # doctest: +SKIP
    """

    def __init__(
        self,
        env_name: str,
        data_list: Sequence[Name],
        portion: tuple[float, float] = (0.0, 1.0),
        generator: np.random.Generator | int | None = None,
        convert: Callable[[NDArray[np.float32]], Any] = np.asarray,
    ) -> None:
        self.robot = find_robot(env_name)
        self.data_list = [Path(path) for path in data_list]
        if not self.data_list:
            raise ValueError("A sampler has at least one file.")
        for path in self.data_list:
            if not path.is_file():
                raise FileNotFoundError(f"There is no file {path}.")
        start, end = portion
        if not 0 <= start < end <= 1:
            raise ValueError(f"A portion goes from a share to a larger one, 0 to 1; got {portion}.")
        self.portion = (start, end)
        self._generator = np.random.default_rng(generator)
        self._convert = convert
        self._read: tuple[Path, Blocks] | None = None

    def sample(
        self, tot_shots: int, idx: int | None = None, replace: bool = False
    ) -> tuple[Any, Any]:
        """Draws blocks of one file.

        Args:
            tot_shots: How many.
            idx: The file's number in `data_list`; None draws one.
            replace: Whether a block may be drawn twice.

        Returns:
            Observations [tot_shots, 1000, n] and actions [tot_shots, 1000, A], float32.

        Raises:
            ValueError: There is no such file, it is damaged, the portion has none of its blocks,
                or more are asked for than it has, without replacement.
        """
        count = len(self.data_list)
        if idx is not None and not 0 <= idx < count:
            raise ValueError(f"idx is the number of a file, 0 to {count - 1}; got {idx}.")
        chosen = int(self._generator.integers(count)) if idx is None else idx
        blocks = self._blocks(self.data_list[chosen])
        total = len(blocks.done)
        first, end = (round(share * total) for share in self.portion)
        if first == end:
            raise ValueError(f"The portion {self.portion} of {total} trajectories has none.")
        if tot_shots < 1 or (not replace and tot_shots > end - first):
            raise ValueError(
                f"tot_shots is 1 to {end - first}, as many as the portion {self.portion} of "
                f"{total} trajectories has, or more with replace=True; got {tot_shots}."
            )
        rows = first + self._generator.choice(end - first, size=tot_shots, replace=replace)
        observations, actions = blocks.observations[rows], blocks.actions[rows]
        return (
            self._convert(observations.astype(np.float32)),
            self._convert(actions.astype(np.float32)),
        )

    def _blocks(self, path: Path) -> Blocks:
        """What a file holds; the last one stays in memory."""
        if self._read is None or self._read[0] != path:
            self._read = (path, read_blocks(path, self.robot))
        return self._read[1]
