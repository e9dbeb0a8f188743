"""``aime-gym train``: a command for every recipe of `agents.runs.recipes`.

Every field of a recipe and of its configurations is an option. Every command has a run folder with
its configuration, learning curve, checkpoint and result; the same command again goes on where the
run stopped.
"""

from __future__ import annotations

import dataclasses
import inspect
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, get_args, get_origin, get_type_hints

import tyro
from tyro.extras import SubcommandApp

from agents.products import use_fast_products
from agents.runs.recipe import FLAT, Recipe, train
from agents.runs.recipes import RECIPES, WorldModelRecipe
from agents.world_models.config import CellKind, WorldModelConfig
from aime_gym.cli.console import is_watched, shell_command

NOT_IN_CARDS = {  # They leave what is learned as it is.
    "device", "folder", "body_model_folder", "checkpoint_interval"
}  # fmt: skip
ABOUT_CELL = "Networks and losses are by default those that suit the --cell."


class TrainApp(SubcommandApp):
    """A command for every recipe; --cell chooses the defaults of a world model."""

    def cli(self, *, args: Sequence[str] | None = None, **options: Any) -> Any:
        """Runs the command that the words in `args` call."""
        words = list(args or ())
        for recipe in RECIPES:
            about = (inspect.getdoc(recipe) or "").partition("\n\nAttributes:")[0]
            values = {}
            if recipe is WorldModelRecipe:
                about, values = f"{about}\n\n{ABOUT_CELL}", {"config": _choose_network(words)}
            self.command(name=recipe.kind, help=about)(_command(recipe, _default(recipe, values)))
        return super().cli(args=words, **options)


app = TrainApp()


def _choose_network(words: Sequence[str]) -> WorldModelConfig:
    """The networks that --cell stands for."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--cell", nargs="?")
    cell = parser.parse_known_args(words)[0].cell
    return WorldModelConfig.of_cell(cell if cell in get_args(CellKind) else "residual")


def _default(recipe: type[Recipe[Any]], values: dict[str, Any]) -> Recipe[Any]:
    """A recipe with its default values, some of them other ones; required options are missing."""
    required = {
        field.name: tyro.MISSING
        for field in dataclasses.fields(recipe)
        if field.default is field.default_factory is dataclasses.MISSING
    }
    timesteps = recipe.learner_class.default_timesteps
    return recipe(**{**required, "total_timesteps": timesteps, **values})


def _command(recipe_class: type[Recipe[Any]], default: Recipe[Any]) -> Callable[..., None]:
    """The command that carries out a recipe, whose fields are its options."""

    def command(recipe: Any = default) -> None:
        use_fast_products()
        train(recipe, progress_bar=is_watched(), command=_line(recipe, default))

    flat = Annotated[tyro.conf.AvoidSubcommands[recipe_class], FLAT]  # type: ignore[valid-type]
    command.__annotations__["recipe"] = flat
    return command


def train_command(recipe: Recipe[Any]) -> str:
    """The shell command that carries out a recipe, wherever its run folder is."""
    recipe = dataclasses.replace(recipe, total_timesteps=recipe.timesteps)
    return _line(recipe, _default(type(recipe), {}))


def _line(recipe: Recipe[Any], default: Recipe[Any]) -> str:
    return shell_command(f"train {recipe.kind}", _options(recipe, _unstated(default)))


def _unstated(default: Recipe[Any]) -> Recipe[Any]:
    """What a card leaves unsaid: the defaults, but for those that depend on version or body."""
    always: dict[str, Any] = {"seed": tyro.MISSING, "total_timesteps": tyro.MISSING}
    if isinstance(default, WorldModelRecipe):
        always["config"] = dataclasses.replace(default.config, cell=tyro.MISSING)
    return dataclasses.replace(default, **always)


def _options(value: Any, unstated: Any, prefix: str = "") -> dict[str, Any]:
    """The options, for a card, that make a recipe or a configuration."""
    options: dict[str, Any] = {}
    hints = get_type_hints(type(value), include_extras=True)
    for name, hint in hints.items():
        if name in NOT_IN_CARDS or get_origin(hint) is ClassVar:
            continue
        new, old = getattr(value, name), getattr(unstated, name)
        if dataclasses.is_dataclass(new):
            inner = prefix if FLAT in get_args(hint) else f"{prefix}{name}."
            options |= _options(new, old, inner)
        elif new is False and old is not False:
            options[f"{prefix}no_{name}"] = True
        elif new != old:
            options[prefix + name] = "None" if new is None else new
    return options
