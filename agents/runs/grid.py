"""A benchmark as one value: methods x tasks x setups x embodiment data x seeds.

    grid = Grid(
        methods=(Method("AIME", kind="aime"), Method("BC", kind="bc")),
        tasks=("walker-run", "walker-walk"),
        setups=("mdp", "lpomdp"),
        seeds=(0, 1, 2),
    )

Every combination is a cell, whose recipe `Grid.recipe` makes. A method that reads no embodiment
data has one cell for all of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from agents.checks import check_at_least, check_numbers
from agents.codec import decode, encode
from agents.runs.folder import differences
from agents.runs.recipes import RECIPES, AgentRecipe, EmbodiedRecipe
from aime_gym.catalogue import find_dataset, find_model
from aime_gym.evaluation.evaluate import EPISODES
from aime_gym.evaluation.origins import METHODS
from aime_gym.ids import NAMESPACE, body_of, check_env_id, parse_env_id, what_exists

AGENTS: dict[str, type[AgentRecipe[Any]]] = {
    recipe.kind: recipe for recipe in RECIPES if issubclass(recipe, AgentRecipe)
}
"""What can be a method: kind -> recipe."""

LOOK_UPS: Mapping[str, Callable[[str], Path]] = {  # Fields of recipes that the grid's names fill.
    "demos": find_dataset,
    "dataset": find_dataset,
    "world_model": find_model,
    "pretrained": find_model,  # Of methods alone.
}
CHOSEN = {  # By the grid, or not in one.
    "env", "seed", "device", "folder", "body_model_folder", "episodes", "record"
}  # fmt: skip
PLACES = ("body", "task", "setup", "embodiment")
CELLS, FIRST_STAGES = "cells", "first-stages"  # In the grid's folder.


@dataclass(frozen=True)
class Method:
    """An agent with its settings.

    Attributes:
        name: Its name in tables and figures.
        kind: The command of `aime-gym train` that learns it, such as ``"aime"``.
        options: Field of its recipe -> value, such as ``{"total_timesteps": 5_000}``; nested
            settings may be a configuration or a dictionary. A grid's names, as ``demos``, may be
            given here for this method alone, and so may ``pretrained``, with the same places.
        minutes: How long a cell may take, on one core; None where unknown.
        paper: Its name among the paper's scores, ``"AIME"`` or ``"BCO(0)"``; None for none.

    Raises:
        ValueError: The kind, an option or the paper's method does not exist, or a value is out of
            range.
    """

    name: str
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    minutes: float | None = None
    paper: str | None = None

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.kind not in AGENTS:
            raise ValueError(f"There is no agent {self.kind!r}: {what_exists(self.kind, AGENTS)}.")
        if not self.slug:
            raise ValueError(f"A method's name has letters or digits; got {self.name!r}.")
        check_at_least(0, minutes=self.minutes)
        if self.paper not in (None, *METHODS):
            exists = what_exists(str(self.paper), METHODS)
            raise ValueError(f"The paper has no scores of {self.paper!r}: {exists}.")
        open_to_choice = [f.name for f in fields(self.recipe) if f.name not in CHOSEN]
        for option in self.options:
            if option not in open_to_choice:
                raise ValueError(
                    f"{self.name} has no option {option!r}: {what_exists(option, open_to_choice)}."
                )
        hints = get_type_hints(self.recipe)
        decoded = {name: decode(hints[name], value) for name, value in self.options.items()}
        object.__setattr__(self, "options", decoded)

    @property
    def recipe(self) -> type[AgentRecipe[Any]]:
        """The recipe of its kind."""
        return AGENTS[self.kind]

    @property
    def slug(self) -> str:
        """Its name in the names of folders."""
        return re.sub(r"[^a-z0-9.]+", "-", self.name.lower()).strip("-")


@dataclass(frozen=True)
class Cell:
    """One run of a grid.

    Attributes:
        method: The method's name.
        task: Such as ``"walker-run"``; or the id of an environment that has no setups.
        setup: ``"mdp"``, ``"lpomdp"`` or ``"visual"``.
        embodiment: Such as ``"mix"``; None where the method reads no embodiment data.
        seed: Seed of the agent.
    """

    method: str
    task: str
    setup: str
    embodiment: str | None
    seed: int

    @property
    def env_id(self) -> str:
        """The environment."""
        return self.task if "/" in self.task else f"{NAMESPACE}/{self.task}-{self.setup}"

    @property
    def body(self) -> str:
        """The body, such as ``"walker"``."""
        return self.task.rpartition("-")[0] if "/" not in self.task else body_of(self.task)

    @property
    def label(self) -> str:
        """What acts, whatever the task and the seed."""
        return self.method if self.embodiment is None else f"{self.method}, {self.embodiment}"

    def __str__(self) -> str:
        parts = (self.method, f"{self.task}-{self.setup}", self.embodiment, f"seed {self.seed}")
        return " ".join(part for part in parts if part)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A benchmark: every method in every task and setup, from every embodiment data and seed.

    Names of data and models may hold ``{body}``, ``{task}``, ``{setup}`` and ``{embodiment}``.

    Attributes:
        methods: The agents.
        tasks: Such as ``"walker-run"``; or ids such as ``"iMuJoCo/hopper-massdec_25_leggeom"`` of
            environments that have no setups, whose ``{task}`` is what follows the namespace.
        setups: ``"mdp"``, ``"lpomdp"`` and ``"visual"``.
        embodiments: What fills ``{embodiment}``.
        seeds: Seeds of the agents.
        episodes: Episodes that score a cell.
        demos: Name of the demonstrations.
        dataset: Name of the embodiment data.
        world_model: Name of the world model.
        cpus: Cores, and threads, of one cell.
        gpus: GPUs of one cell; 0 trains on the CPU.

    Raises:
        ValueError: Nothing is to be done, something is there twice, or a number is out of range.
    """

    methods: tuple[Method, ...]
    tasks: tuple[str, ...]
    setups: tuple[str, ...] = ("mdp",)
    embodiments: tuple[str, ...] = ("mix",)
    seeds: tuple[int, ...] = (0,)
    episodes: int = EPISODES
    demos: str = "{body}-{task}-expert"
    dataset: str = "{body}-{embodiment}"
    world_model: str = "{body}-{embodiment}-{setup}"
    cpus: int = 1
    gpus: float = 0

    def __post_init__(self) -> None:
        check_numbers(self)
        check_at_least(1, episodes=self.episodes, cpus=self.cpus)
        check_at_least(0, gpus=self.gpus)
        for name in ("methods", "tasks", "setups", "embodiments", "seeds"):
            given = getattr(self, name)
            values = (given,) if isinstance(given, str | Method) else tuple(given)
            object.__setattr__(self, name, values)
            distinct = {v.slug if isinstance(v, Method) else v for v in values}
            if not values or len(distinct) < len(values):
                raise ValueError(f"A grid has at least one of {name}, and none twice: {values}.")
        check_at_least(0, seeds=min(self.seeds))

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Every cell, once; the methods change fastest, and the seeds slowest."""
        combinations = (
            Cell(method.name, task, setup, embodiment, seed)
            for seed in self.seeds
            for setup in self.setups
            for task in self.tasks
            for embodiment in self.embodiments
            for method in self.methods
        )
        cells = (
            c if self._embodied(c.method) else replace(c, embodiment=None) for c in combinations
        )
        return tuple(dict.fromkeys(cells))

    def method(self, cell: Cell) -> Method:
        """The method of a cell."""
        return next(method for method in self.methods if method.name == cell.method)

    def cell_folder(self, cell: Cell) -> Path:
        """A cell's run folder, inside the grid's."""
        task = cell.task.replace("/", "-")
        parts = (self.method(cell).slug, task, cell.setup, cell.embodiment, f"seed{cell.seed}")
        return Path(CELLS) / "-".join(part for part in parts if part)

    def recipe(self, cell: Cell, folder: Path = Path()) -> AgentRecipe[Any]:
        """How a cell is learnt.

        Args:
            cell: One of `cells`.
            folder: The grid's folder.

        Raises:
            ValueError: A name holds a place that does not exist, or a setting is out of range.
        """
        method = self.method(cell)
        chosen: dict[str, Any] = {
            "env": cell.env_id,
            "seed": cell.seed,
            "device": "cuda" if self.gpus else "cpu",
            "folder": folder / self.cell_folder(cell),
            "episodes": self.episodes,
            **{name: _fill(pattern, cell) for name, pattern in self._names(method).items()},
        }
        if issubclass(method.recipe, EmbodiedRecipe):
            stage = f"{Path(chosen['dataset']).name}-{cell.setup}-seed{cell.seed}"
            place = folder / FIRST_STAGES / method.slug / cell.body / stage
            chosen["body_model_folder"] = place
        return method.recipe(**{**method.options, **chosen})

    def check(self) -> None:
        """Checks that everything exists that the cells name, before any work.

        Raises:
            FileNotFoundError: A dataset or a model is missing; the message lists what there is.
            ValueError: A task or a setup does not exist; the message lists those that do.
        """
        for cell in self.cells:
            env_id = check_env_id(cell.env_id)
            if "/" not in cell.task:
                parse_env_id(env_id)
            recipe = self.recipe(cell)
            for name in self._names(self.method(cell)):
                LOOK_UPS[name](getattr(recipe, name))

    def _names(self, method: Method) -> dict[str, str]:
        """Field of a method's recipe -> the name, with places, that fills it."""
        wanted = {each.name for each in fields(method.recipe)} & LOOK_UPS.keys()
        names = {n: method.options.get(n, getattr(self, n, None)) for n in sorted(wanted)}
        return {name: pattern for name, pattern in names.items() if pattern is not None}

    def _embodied(self, name: str) -> bool:
        method = next(method for method in self.methods if method.name == name)
        return any("{embodiment}" in pattern for pattern in self._names(method).values())


def check_same(before: Grid, now: Grid, folder: Path) -> None:
    """Checks that a folder's grid is this one, or this one with cells more or less.

    Raises:
        ValueError: They share no cell, or a cell that they share is another; the message says how.
    """
    shared = [cell for cell in now.cells if cell in before.cells]
    if not shared:
        raise ValueError(
            f"{folder} has another grid, of {before.cells[0]} and others; choose another folder."
        )
    for cell in shared:
        changes = differences(encode_recipe(before, cell), encode_recipe(now, cell))
        if changes:
            raise ValueError(
                f"{folder} has another grid: there {cell} has {changes}. Choose another folder, or "
                "another name for the method."
            )


def encode_recipe(grid: Grid, cell: Cell) -> dict[str, Any]:
    """What a cell is, as plain values, without where it lies and on what it is computed."""
    recipe = grid.recipe(cell)
    left_out = {"device", "folder", "body_model_folder", "checkpoint_interval"}
    names = [each.name for each in fields(recipe) if each.name not in left_out]
    return {"kind": recipe.kind, **{name: encode(getattr(recipe, name)) for name in names}}


def _fill(pattern: str, cell: Cell) -> str:
    """A name whose places a cell fills."""
    _, _, task = cell.task.rpartition("/" if "/" in cell.task else "-")
    values = {"body": cell.body, "task": task, "setup": cell.setup, "embodiment": cell.embodiment}
    try:
        return pattern.format_map(values)
    except (KeyError, ValueError, IndexError) as error:
        places = ", ".join(f"{{{place}}}" for place in PLACES)
        raise ValueError(f"{pattern!r} is no name: places are {places}.") from error
