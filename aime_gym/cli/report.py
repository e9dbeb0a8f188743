"""``aime-gym report``: a grid's results as one HTML file."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import tyro

from agents.runs.benchmark import read_grid
from agents.runs.cell import RESULT
from agents.runs.grid import Cell, Grid
from agents.runs.recipes import ImitationRecipe
from agents.runs.report import VIDEOS, report_of
from aime_gym.cli.console import say
from aime_gym.cli.outputs import writes
from aime_gym.cli.policies import Acting
from aime_gym.cli.train import train_command
from aime_gym.datasets import load_dataset
from aime_gym.evaluation.evaluate import EVAL_SEED, evaluate
from aime_gym.evaluation.report import write_report
from aime_gym.ids import NAMESPACE, what_exists
from aime_gym.rendering import check_drawing, imitation_video

NAME = "report.html"
SECONDS = 12  # Of a video.
PICTURE_SIZE = 200  # Pixels.


@writes(out="file")
def report(
    folder: tyro.conf.Positional[Path],
    *,
    out: Path | None = None,
    film: tuple[str, ...] = (),
) -> None:
    """Write the results of a grid as one HTML file that needs nothing else.

    Args:
        folder: The folder of a grid, from aime-gym benchmark.
        out: Where the report goes; by default report.html in the folder.
        film: Film the expert beside its imitators in these environments, such as walker-run-mdp.
    """
    grid = read_grid(folder)
    if out is not None and out.is_dir():
        raise ValueError(f"{out} is a folder; --out names a file, such as {out / NAME}.")
    finished = _finished(grid, folder)
    for name in film:
        if name not in finished:
            raise ValueError(f"No run of {name!r} is finished: {what_exists(name, finished)}.")
    for name in film:
        with gym.make(finished[name][0].env_id) as env:
            check_drawing(env)
    for name in film:
        say(f"Filming {name}.")
        film_imitators(grid, finished[name], folder)
    path = write_report(report_of(folder, train_command), out or folder / NAME)
    say(f"The report is {path}.")


def film_imitators(grid: Grid, cells: list[Cell], folder: Path) -> Path:
    """Films a demonstration beside an episode of every method, with its first seed.

    Args:
        grid: What the cells belong to.
        cells: Finished cells of one environment.
        folder: The grid's folder; the video goes into it.

    Raises:
        RenderingUnavailable: There is no working OpenGL.
    """
    env_id, seed = cells[0].env_id, cells[0].seed
    name = env_id.removeprefix(f"{NAMESPACE}/")
    recipes = {cell: grid.recipe(cell, folder) for cell in cells if cell.seed == seed}
    demos = [recipe.demos for recipe in recipes.values() if isinstance(recipe, ImitationRecipe)]
    if not demos:
        raise ValueError(f"No run of {name} imitates demonstrations that could be shown.")
    with gym.make(env_id) as env:
        rows = round(SECONDS * env.unwrapped.metadata["render_fps"])
        imitators = {}
        for cell, recipe in recipes.items():
            agent = Acting(env=env_id, policy=str(recipe.run_folder), device="cpu").load(EVAL_SEED)
            (episode,) = evaluate(agent, env_id, 1, record=True).trajectories
            imitators[cell.label] = episode.window(0, min(rows, len(episode)))
        expert = load_dataset(demos[0])[0]
        shown = expert.window(0, min(rows, len(expert)))
        path = folder / VIDEOS / f"{name}.mp4"
        imitation_video(path, env, shown, imitators, PICTURE_SIZE)
    return path


def _finished(grid: Grid, folder: Path) -> dict[str, list[Cell]]:
    """Environment, as in walker-run-mdp -> its finished cells."""
    found: dict[str, list[Cell]] = {}
    for cell in grid.cells:
        if (folder / grid.cell_folder(cell) / RESULT).exists():
            name = cell.env_id.removeprefix(f"{NAMESPACE}/")
            found.setdefault(name, []).append(cell)
    return found
