"""Few-shot imitation of altered bodies, after Patacchiola et al. 2023, arXiv:2306.13554.

From k trajectories of the expert of a body that nothing else has seen:

    BC from scratch       clones them
    BC fine-tuned         the same, from a policy that has cloned the experts of many bodies
    BC meta-learned       the same, from a start that Reptile has found on these bodies
    AIME                  sees them without actions; its world model is of many bodies, and has
                          learned on with the body's own random data

Beside these stand the base body's policy as it is, and the body's own expert, 100 percent. The data
come from the folder of a `PolicyQueue`; the cells are those of a `Grid`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from agents.aime import AIMEAgent, AIMEConfig
from agents.bc import BCConfig
from agents.checks import check_at_least, check_numbers
from agents.imujoco.queue import DATASETS, PolicyResult, read_results
from agents.reptile import ReptileConfig
from agents.runs.benchmark import Outcome, claim, run_grid
from agents.runs.grid import Grid, Method
from agents.runs.recipe import Recipe, train
from agents.runs.recipes import BCRecipe, ReptileRecipe, WorldModelRecipe
from aime_gym.catalogue import DATA_VARIABLE
from aime_gym.datasets import Selection, collect, load_dataset, mix, save_dataset
from aime_gym.evaluation.benchmark import BenchmarkTable
from aime_gym.evaluation.few_shot_figure import plot_few_shot
from aime_gym.files import write_json
from aime_gym.ids import what_exists
from aime_gym.imujoco_ids import NAMESPACE, ROBOTS, find_body

SCRATCH, TUNED, META, AIME = "BC from scratch", "BC fine-tuned", "BC meta-learned", "AIME"
METHODS = (SCRATCH, TUNED, META, AIME)
REFERENCES, FIGURE = "references.json", "few-shot.png"


@dataclass(frozen=True, kw_only=True)
class FewShot:
    """The experiment on one robot.

    Attributes:
        folder: Its own folder: a grid's, with the data and first stages in it.
        policies: The folder of a `PolicyQueue`, in which all bodies here are finished.
        held_out: Bodies to imitate.
        training: Bodies to learn from beforehand; empty for all finished ones but the held-out.
        shots: Numbers of trajectories, k.
        seeds: Seeds of the agents.
        methods: Some of `METHODS`.
        task_size: Trajectories of every body to learn from beforehand.
        random_episodes: Random episodes of each held-out body, for AIME's world model.
        start_timesteps: Updates of the policy, and of the world model, of many bodies.
        meta_timesteps: Meta-updates of Reptile.
        own_timesteps: Updates of the world model on a body's own data.
        total_timesteps: Updates of behavioural cloning on the shots, at most.
        aime_timesteps: Updates of AIME on the shots, those of its start included.
        episodes: Episodes that score a cell.
        aime: Settings of AIME.

    Raises:
        ValueError: A number is out of range, there is no such method or body, or bodies are of
            several robots, or are both held out and learned from.
    """

    folder: Path
    held_out: tuple[str, ...]
    policies: Path = Path("runs/imujoco")
    training: tuple[str, ...] = ()
    shots: tuple[int, ...] = (1, 5, 20)
    seeds: tuple[int, ...] = (0, 1, 2)
    methods: tuple[str, ...] = METHODS
    task_size: int = 10
    random_episodes: int = 20
    start_timesteps: int = 5_000
    meta_timesteps: int = 2_000
    own_timesteps: int = 1_000
    total_timesteps: int = 2_000
    aime_timesteps: int = AIMEAgent.default_timesteps
    episodes: int = 20
    aime: AIMEConfig = field(default_factory=AIMEConfig)

    def __post_init__(self) -> None:
        check_numbers(self)
        names = ("task_size", "random_episodes", "episodes")
        starts = ("start_timesteps", "meta_timesteps", "own_timesteps")
        steps = (*starts, "total_timesteps", "aime_timesteps")
        check_at_least(1, shots=min(self.shots), **{n: getattr(self, n) for n in (*names, *steps)})
        check_at_least(0, seeds=min(self.seeds))
        for method in self.methods:
            if method not in METHODS:
                raise ValueError(f"There is no method {method!r}: {what_exists(method, METHODS)}.")
        robots = {find_body(name).robot for name in (*self.held_out, *self.training)}
        both = sorted({*self.held_out} & {*self.training})
        if len(robots) != 1 or both:
            raise ValueError(
                "Bodies are held out or learned from, at least one held out, all of one robot; got "
                f"{', '.join(sorted(robots)) or 'none'}{', both: ' * bool(both)}{', '.join(both)}."
            )

    @property
    def robot(self) -> str:
        """The robot of all bodies."""
        return find_body(self.held_out[0]).robot

    @property
    def grid(self) -> Grid:
        """Every method with every number of shots, as cells."""
        methods = [self._method(name, k) for k in self.shots for name in self.methods]
        return Grid(
            methods=tuple(methods),
            tasks=tuple(f"{NAMESPACE}/{name}" for name in self.held_out),
            seeds=self.seeds,
            episodes=self.episodes,
            demos=str(self._demos("{task}")),
        )

    def run(self, say: Callable[[str], None] = print, processes: int | None = None) -> Outcome:
        """Runs what is not finished yet: first stages, then cells; then table and figure.

        Args:
            say: Is told what happens, line by line.
            processes: Cells at once; None for as many as there are cores.

        Raises:
            FileExistsError: The folder has something else.
            FileNotFoundError: A body has no policy in the queue's folder yet.
            ValueError: A held-out body has fewer trajectories than shots are asked for.
        """
        results = self._results()
        self._check_shots()
        claim(self.folder.absolute(), self.grid)
        for name, recipe in self.first_stages().items():
            say(f"{name}: {recipe.run_folder}")
            train(recipe)
        with self._experts_known():
            outcome = run_grid(self.grid, self.folder, processes=processes, say=say)
        references = {name: self._zero_shot(results[name]) for name in self.held_out}
        write_json(self.folder / REFERENCES, references)
        if outcome.table.rows:
            curves = few_shot_curves(outcome.table, self.methods, self.shots)
            known = [value for value in references.values() if value is not None]
            zero_shot = float(np.mean(known)) if known else None
            plot_few_shot(curves, zero_shot, self.folder / FIGURE)
        return outcome

    def first_stages(self) -> dict[str, Recipe[Any]]:
        """What is learned before the shots are seen; its data are made where they are missing."""
        env, pool = f"{NAMESPACE}/{self.robot}", str(self._pool())
        stages: dict[str, Recipe[Any]] = {}
        if TUNED in self.methods:
            stages["policy of many bodies"] = BCRecipe(
                env=env,
                demos=pool,
                total_timesteps=self.start_timesteps,
                episodes=self.episodes,
                folder=self._stage("bc"),
                config=BCConfig(num_demonstrations=1_000_000),
            )
        if META in self.methods:
            stages["start of many bodies"] = ReptileRecipe(
                env=env,
                demos=pool,
                total_timesteps=self.meta_timesteps,
                episodes=self.episodes,
                folder=self._stage("reptile"),
                config=ReptileConfig(task_size=self.task_size),
            )
        if AIME in self.methods:
            world = WorldModelRecipe(
                env=env,
                dataset=pool,
                total_timesteps=self.start_timesteps,
                folder=self._stage("world-model"),
            )
            stages["world model of many bodies"] = world
            for name in self.held_out:
                stages[f"world model of {name}"] = WorldModelRecipe(
                    env=f"{NAMESPACE}/{name}",
                    dataset=str(self._random(name)),
                    total_timesteps=self.own_timesteps,
                    pretrained=str(self._stage("world-model")),
                    folder=self._stage(f"world-model-{name}"),
                )
        return stages

    def _method(self, name: str, shots: int) -> Method:
        label, options = few_shot_label(name, shots), {"total_timesteps": self.total_timesteps}
        if name == AIME:
            options = {"total_timesteps": self.aime_timesteps}
            config: Any = replace(self.aime, num_demonstrations=shots)
            model = str(self._stage("world-model-{task}"))
            return Method(label, "aime", {**options, "config": config, "world_model": model})
        starts = {TUNED: "bc", META: "reptile"}
        start = {"pretrained": str(self._stage(starts[name]))} if name in starts else {}
        config = BCConfig(num_demonstrations=shots)
        return Method(label, "bc", {**options, "config": config, **start})

    def _demos(self, name: str) -> Path:
        return self.policies.absolute() / DATASETS / f"{NAMESPACE}-{name}-expert"

    def _stage(self, name: str) -> Path:
        return self.folder.absolute().with_name(f"{self.folder.name}-first-stages") / name

    def _results(self) -> dict[str, PolicyResult]:
        """The results of all bodies' policies."""
        results = read_results(self.policies)
        missing = [name for name in (*self.held_out, *self.training) if name not in results]
        if missing or not self._trained_on(results):
            raise FileNotFoundError(
                f"{self.policies} has no finished policy of {', '.join(missing) or 'other bodies'}:"
                f" aime-gym imujoco train --variants {' '.join(missing) or f'{self.robot}-*'}."
            )
        return results

    def _check_shots(self) -> None:
        for name in self.held_out:
            found = len(load_dataset(self._demos(name)))
            if found < max(self.shots):
                raise ValueError(
                    f"{name} has {found} trajectories in {self.policies}, and {max(self.shots)} "
                    f"are to be imitated: collect more into another folder, --trajectories "
                    f"{max(self.shots)}, or ask for fewer --shots."
                )

    def _trained_on(self, results: dict[str, PolicyResult]) -> list[str]:
        everything = [n for n in results if find_body(n).robot == self.robot]
        return list(self.training or [n for n in everything if n not in self.held_out])

    def _pool(self) -> Path:
        """A dataset of so many trajectories of every body to learn from, one after another."""
        target = self._stage("data") / "pool"
        if not target.exists():
            names = self._trained_on(self._results())
            datasets = [load_dataset(self._demos(name)) for name in names]
            chosen = [Selection(episodes=self.task_size)] * len(datasets)
            save_dataset(mix(datasets, f"imujoco-{self.robot}-pool", chosen), target)
        return target

    def _random(self, name: str) -> Path:
        """Random episodes of a body."""
        target = self._stage("data") / f"random-{name}"
        if not target.exists():
            env_id, episodes = f"{NAMESPACE}/{name}", self.random_episodes
            data = collect("random", env_id, episodes, seed=0, name=f"{NAMESPACE}-{name}-random")
            save_dataset(data, target)
        return target

    @contextmanager
    def _experts_known(self) -> Iterator[None]:
        """Has evaluations find the experts' datasets, here and in the cells' processes."""
        before = os.environ.get(DATA_VARIABLE)
        folder = str(self.policies.absolute() / DATASETS)
        os.environ[DATA_VARIABLE] = folder if not before else f"{folder}{os.pathsep}{before}"
        try:
            yield
        finally:
            del os.environ[DATA_VARIABLE]
            if before is not None:
                os.environ[DATA_VARIABLE] = before

    def _zero_shot(self, result: PolicyResult) -> float | None:
        """Score of the base body's policy, percent of the body's own expert."""
        base = result.mean if result.name in ROBOTS else result.zero_shot_mean
        return None if base is None or result.mean <= 0 else 100 * base / result.mean


def few_shot_label(method: str, shots: int) -> str:
    """The name of a method with so many trajectories, in the table."""
    return f"{method}, {shots} shot{'s' if shots > 1 else ''}"


def few_shot_curves(
    table: BenchmarkTable, methods: tuple[str, ...], shots: tuple[int, ...]
) -> dict[str, dict[int, tuple[float, float, float]]]:
    """Method -> number of shots -> mean score of bodies and seeds, and its interval, percent."""
    means = table.aggregates().get("mean", {})
    return {
        method: {
            k: means[few_shot_label(method, k)] for k in shots if few_shot_label(method, k) in means
        }
        for method in methods
    }
