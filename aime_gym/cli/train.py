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
from typing import Annotated, Any, ClassVar, Final, get_args, get_origin, get_type_hints

import tyro
from tyro.extras import SubcommandApp

from agents.products import use_fast_products
from agents.runs.recipes import FLAT, RECIPES, Recipe, WorldModelRecipe, train
from agents.world_models.config import CellKind, WorldModelConfig
from aime_gym.cli.console import is_watched, shell_command
from aime_gym.ids import body_of

NOT_IN_CARDS = {"device", "folder", "checkpoint_interval"}  # They leave what is learned as it is.
AUTO: Final = "auto"
ABOUT_AUTO = "Without --cell, or with --cell auto, networks and losses are those of the body."


class TrainApp(SubcommandApp):
    """A command for every recipe; --env and --cell choose the defaults of a world model."""

    def cli(self, *, args: Sequence[str] | None = None, **options: Any) -> Any:
        """Runs the command that the words in `args` call."""
        words, network = _choose_network(list(args or ()))
        for recipe in RECIPES:
            about = (inspect.getdoc(recipe) or "").partition("\n\nAttributes:")[0]
            values = {}
            if recipe is WorldModelRecipe:
                about, values = f"{about}\n\n{ABOUT_AUTO}", {"config": network}
            self.command(name=recipe.kind, help=about)(_command(recipe, _default(recipe, values)))
        return super().cli(args=words, **options)


app = TrainApp()


def _choose_network(words: list[str]) -> tuple[list[str], WorldModelConfig]:
    """The words without ``--cell auto``, and the networks that --env and --cell stand for."""
    if words[:1] != [WorldModelRecipe.kind]:
        return words, WorldModelConfig()
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    for option in ("--env", "--cell"):
        parser.add_argument(option, nargs="?")
    chosen, others = parser.parse_known_args(words)
    env, cell = chosen.env, chosen.cell
    network = WorldModelConfig()
    if cell in get_args(CellKind):
        network = WorldModelConfig.of_cell(cell, "")
    elif env is not None:
        network = WorldModelConfig.of_cell(AUTO, body_of(env))
    given = {"--env": env, "--cell": None if cell == AUTO else cell}
    for option, value in given.items():
        others += [] if value is None else [option, value]
    return others, network


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
        line = shell_command(f"train {recipe.kind}", _options(recipe, _unstated(default)))
        train(recipe, progress_bar=is_watched(), command=line)

    flat = Annotated[tyro.conf.AvoidSubcommands[recipe_class], FLAT]  # type: ignore[valid-type]
    command.__annotations__["recipe"] = flat
    return command


def _unstated(default: Recipe[Any]) -> Recipe[Any]:
    """What a card leaves unsaid: the defaults, but for those that depend on version or body."""
    always: dict[str, Any] = {"seed": tyro.MISSING, "total_timesteps": tyro.MISSING}
    if isinstance(default, WorldModelRecipe) and default.config is not None:
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
