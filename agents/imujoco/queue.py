"""Policies for many bodies: a queue that several workers share, and that goes on where it stopped.

    runs/imujoco/
        hopper/, hopper-massdec_25_leggeom/, ...    run folders of `ExpertRecipe`, with
            result.json                             what came out, once the body is finished
        datasets/iMuJoCo-<body>-expert/             its trajectories, with a card
        dataset/sac-<body>.npz                      the same in the published layout

A base body learns from scratch. A variant starts from the networks of its base body's best policy,
which the queue trains first, or from scratch as well. One worker at a time has a body, by a lock
that goes with a killed process; every worker takes what no other has.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from agents.checks import check_at_least, check_device, check_numbers
from agents.runs.benchmark import CLAIMING, GRID
from agents.runs.recipe import train
from agents.runs.recipes.agent import EVALUATION
from agents.runs.recipes.online import BEST, BEST_FULL, ExpertRecipe
from agents.sac import SACAgent, SACConfig, import_simba
from aime_gym.card import CARD
from aime_gym.catalogue import CONFIG
from aime_gym.datasets import save_dataset
from aime_gym.datasets.imujoco_npz import PREFIX, collect_blocks, write_imujoco_npz
from aime_gym.evaluation.evaluate import evaluate
from aime_gym.files import write_json
from aime_gym.ids import task_name
from aime_gym.imujoco_ids import ROBOTS, Entry, catalogue, find_body
from aime_gym.places import kept

RESULT, ALL, BASE = "result.json", "all", "base"
DATASETS, PUBLISHED = "datasets", "dataset"  # In the queue's folder.
WARM_EVALUATION_INTERVAL = 2_500  # A warm start is short, and returns jump.
COLLECT_SEED = 3_000_000  # Far from the seeds of training and of evaluations.


def select_bodies(patterns: Sequence[str]) -> list[Entry]:
    """The bodies that some words name, each once, in the order of the catalogue.

    Args:
        patterns: ``"all"``, ``"base"``, names, and patterns such as ``"hopper-mass*"``.

    Raises:
        ValueError: A word names no body; the message suggests the closest.
    """
    known = catalogue()
    chosen: dict[str, Entry] = {}
    for pattern in patterns:
        if pattern in (ALL, BASE):
            found = [n for n, e in known.items() if pattern == ALL or e.status == "base"]
        else:
            found = fnmatch.filter(known, pattern) or [find_body(pattern).name]
        chosen.update({name: find_body(name) for name in found})
    order = {name: number for number, name in enumerate(known)}
    return sorted(chosen.values(), key=lambda entry: order.get(entry.name, len(order)))


@dataclass(frozen=True)
class PolicyResult:
    """What came of the policy of one body.

    Attributes:
        name: The body.
        returns: Of the best policy's evaluation, one per episode.
        zero_shot: Of the base body's policy on this body; empty for a base body, and where there
            was none.
        timesteps: Agent steps of training, without those of the base body.
    """

    name: str
    returns: tuple[float, ...]
    zero_shot: tuple[float, ...]
    timesteps: int

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(np.mean(self.returns))

    @property
    def zero_shot_mean(self) -> float | None:
        """Mean return of the base body's policy."""
        return float(np.mean(self.zero_shot)) if self.zero_shot else None


def read_results(folder: Path) -> dict[str, PolicyResult]:
    """Body -> what came out, for those of a queue's folder that are finished."""
    results = {}
    for path in sorted(folder.glob(f"*/{RESULT}")):
        values: dict[str, Any] = json.loads(path.read_bytes())
        returns = {key: tuple(values[key]) for key in ("returns", "zero_shot")}
        result = PolicyResult(values["name"], **returns, timesteps=values["timesteps"])
        results[result.name] = result
    return results


@dataclass(frozen=True, kw_only=True)
class PolicyQueue:
    """How policies are trained, and where.

    Attributes:
        folder: The queue's folder, which all workers share.
        total_timesteps: Agent steps of a policy that learns from scratch.
        warm_timesteps: Agent steps of a policy that starts from its base body's.
        warm_learning_starts: Those of them before its first update, in which it acts as the base
            body's: updates on a handful of transitions destroy a policy that is good already.
        warm_start: Whether the policies of variants start from those of their base bodies.
        trajectories: Blocks of 1,000 steps that are collected with each policy.
        episodes: Episodes of each evaluation.
        seed: Seed of networks, exploration and noise.
        device: Where to train: auto, cpu, cuda, ...
        config: Algorithm and its settings.

    Raises:
        ValueError: A number is out of range.
    """

    folder: Path = Path("runs/imujoco")
    total_timesteps: int = 200_000
    warm_timesteps: int = 40_000
    warm_learning_starts: int = 5_000
    warm_start: bool = True
    trajectories: int = 100
    episodes: int = 10
    seed: int = 0
    device: str = "cpu"
    config: SACConfig = field(default_factory=lambda: SACConfig(algorithm="simba"))

    def __post_init__(self) -> None:
        check_numbers(self)
        check_at_least(
            1,
            total_timesteps=self.total_timesteps,
            warm_timesteps=self.warm_timesteps,
            trajectories=self.trajectories,
            episodes=self.episodes,
        )
        check_at_least(0, seed=self.seed, warm_learning_starts=self.warm_learning_starts)

    def recipe(self, entry: Entry) -> ExpertRecipe:
        """How the policy of a body is trained."""
        scratch = ExpertRecipe(
            env=entry.env_id,
            total_timesteps=self.total_timesteps,
            seed=self.seed,
            device=self.device,
            folder=self.folder / entry.name,
            episodes=self.episodes,
            config=self.config,
        )
        if not self._is_warm(entry):
            return scratch
        starts = min(self.warm_learning_starts, self.warm_timesteps)
        return replace(
            scratch,
            total_timesteps=self.warm_timesteps,
            evaluation_interval=WARM_EVALUATION_INTERVAL,
            pretrained=str(self.folder / entry.robot / BEST_FULL),
            config=replace(self.config, learning_starts=starts, first_actions="policy"),
        )

    def run(
        self,
        entries: Sequence[Entry],
        say: Callable[[str], None] = print,
        progress_bar: bool = False,
    ) -> dict[str, str]:
        """Trains whatever is not finished and no other worker has.

        Args:
            entries: The bodies; base bodies that variants start from are added.
            say: Is told what happens, line by line.
            progress_bar: Show one for each training.

        Returns:
            Body -> what went wrong, for those that failed; they are tried again the next time.

        Raises:
            FileExistsError: The folder is a run, a grid or a dataset.
            ModuleNotFoundError: The algorithm's package is missing.
            ValueError: There is no such device; another process is writing to the folder; or a
                policy of a base body that others start from was unpacked.
        """
        self.claim()
        if self.config.algorithm == "simba":
            import_simba()
        warm = [each for each in entries if self._is_warm(each) and not self.is_finished(each)]
        needed = [find_body(entry.robot) for entry in warm]
        for entry in needed:
            if self.is_finished(entry) and not (self.folder / entry.name / BEST_FULL).is_file():
                raise ValueError(
                    f"The policy of {entry.name} in {self.folder} was unpacked, or is of an "
                    f"earlier version: it has no {BEST_FULL}, with critics that others could start "
                    "from. Choose another folder, or train from scratch: --no-warm-start."
                )
        everything = dict.fromkeys([*needed, *entries])
        failed: dict[str, str] = {}
        for entry in sorted(everything, key=lambda entry: entry.status != BASE):
            with self.hold(entry, wait=entry in needed) as mine:
                if not mine:
                    say(f"{entry.name}: another worker has it")
                elif not self.is_finished(entry):
                    say(f"{entry.name}: started")
                    try:
                        result = self._finish(entry, progress_bar)
                    except Exception as error:  # Whatever it is, the other bodies go on.
                        failed[entry.name] = f"{type(error).__name__}: {error}"
                    say(f"{entry.name}: {failed.get(entry.name) or f'return {result.mean:.0f}'}")
        return failed

    def claim(self) -> None:
        """Checks device and folder, before any work.

        Raises:
            FileExistsError: The folder is a run, a grid or a dataset.
            ValueError: There is no such device, or another process is writing to the folder.
        """
        check_device(self.device)
        with kept(self.folder, CLAIMING):
            self._check_folder()

    def _check_folder(self) -> None:
        """FileExistsError where something else than policies of bodies is in the folder."""
        found = [name for name in (CONFIG, GRID, CARD) if (self.folder / name).exists()]
        if found or self.folder.is_file():
            raise FileExistsError(
                f"{self.folder} is no folder of policies of bodies ({found[0]} is in it): choose "
                "another one."
                if found
                else f"{self.folder} is a file; choose a folder."
            )

    def _is_warm(self, entry: Entry) -> bool:
        return self.warm_start and entry.name not in ROBOTS

    def is_finished(self, entry: Entry) -> bool:
        """Whether a body has its result."""
        return (self.folder / entry.name / RESULT).is_file()

    @contextmanager
    def hold(self, entry: Entry, wait: bool) -> Iterator[bool]:
        """Keeps other workers from a body; yields False where one has it, unless told to wait."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / f".{entry.name}.queue.lock")
        try:
            lock.acquire(timeout=-1 if wait else 0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def _finish(self, entry: Entry, progress_bar: bool) -> PolicyResult:
        """Trains, evaluates and collects, whatever of it is still to be done."""
        place, recipe = self.folder / entry.name, self.recipe(entry)
        train(recipe, progress_bar=progress_bar)
        policy = SACAgent.load(place / BEST, device=self.device)
        returns = tuple(json.loads((place / EVALUATION).read_bytes())["returns"])
        self.collect(entry, policy, returns)
        zero_shot = self.zero_shot(entry, self.folder / entry.robot / BEST)
        result = PolicyResult(entry.name, returns, zero_shot, recipe.timesteps)
        write_json(place / RESULT, vars(result))
        return result

    def zero_shot(self, entry: Entry, base: Path) -> tuple[float, ...]:
        """Returns of the base body's policy on a body; none of a base body, or without policy.

        Args:
            entry: The body.
            base: The archive of the base body's policy.
        """
        if entry.name in ROBOTS or not base.is_file():
            return ()
        policy = SACAgent.load(base, env=entry.env_id, device=self.device)
        return tuple(map(float, evaluate(policy, entry.env_id, self.episodes).returns))

    def collect(self, entry: Entry, policy: SACAgent, returns: tuple[float, ...]) -> None:
        """Writes a policy's trajectories, in both layouts, unless they are there already.

        Args:
            entry: The body.
            policy: Its policy.
            returns: Of the policy's evaluation, for the dataset's card.
        """
        name = f"{task_name(entry.env_id)}-expert"
        own = self.folder / DATASETS / name
        published = self.folder / PUBLISHED / f"{PREFIX}{entry.name}.npz"
        if own.exists() and published.exists():
            return
        dataset = collect_blocks(
            policy,
            entry.env_id,
            self.trajectories,
            seed=COLLECT_SEED,
            name=name,
            description=f"A SAC policy's trajectories of {entry.name}, acting deterministically.",
            evaluation_returns=returns,
        )
        if not published.exists():
            write_imujoco_npz(dataset, published)
        if not own.exists():
            save_dataset(dataset, own)
