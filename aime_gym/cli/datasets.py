"""``aime-gym datasets``: what there is, what is in it, and how to cut, mix, convert and draw it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from numpy.typing import NDArray
from tyro.extras import SubcommandApp

from aime_gym.catalogue import (
    DATA_VARIABLE,
    cache_folder,
    dataset_folders,
    find_dataset,
    list_datasets,
)
from aime_gym.cli.console import is_watched, shell_command, show_table
from aime_gym.cli.outputs import writes
from aime_gym.datasets import (
    Dataset,
    Selection,
    load_dataset,
    save_dataset,
    verify_dataset,
    write_aime_npz,
    write_minari,
)
from aime_gym.datasets import mix as mix_datasets
from aime_gym.datasets.coverage import coverage, project
from aime_gym.datasets.embodiment import (
    RECIPES,
    make_embodiment,
    rows_by_source,
)
from aime_gym.datasets.image_files import image_folder
from aime_gym.datasets.minari import import_minari
from aime_gym.download import download_dataset, push_dataset
from aime_gym.evaluation.dataset_figure import check_figure_path
from aime_gym.evaluation.plots import plot_coverage
from aime_gym.files import check_new_folder
from aime_gym.minari_folders import is_minari, minari_id, minari_root
from aime_gym.picture import draw_dataset

app = SubcommandApp()
WRITERS: dict[str, Callable[[Dataset, Path], Path]] = {
    "aime": write_aime_npz,
    "minari": write_minari,
    "native": partial(save_dataset, sensor_dtype=None),
}
SYNTAX = "SOURCE[:max_return=NUMBER,stride=N,episodes=N]"


@app.command(name="list")
def list_() -> None:
    """List the datasets on this machine."""
    cards = list_datasets()
    if cards:
        rows = [
            (name, card.body, card.env_id or "-", card.source, card.description)
            for name, card in cards.items()
        ]
        show_table(("name", "body", "environment", "source", "description"), rows)
        return
    searched = ", ".join(map(str, dataset_folders()))
    print(f"There are none in {searched}. {DATA_VARIABLE} adds folders.")


@app.command
def show(name: tyro.conf.Positional[str]) -> None:
    """Show a dataset's card, sizes, returns and checksum.

    Args:
        name: A name of `aime-gym datasets list`, or a path.
    """
    dataset = load_dataset(name, progress_bar=is_watched())
    card = dataset.card
    versions = ", ".join(f"{package} {version}" for package, version in card.versions.items())
    facts = {
        "name": card.name,
        "description": card.description,
        "folder": str(find_dataset(name)),
        "body": card.body,
        "environment": card.env_id,
        "action repeat": None if card.action_repeat is None else str(card.action_repeat),
        "source": card.source,
        "license": card.license,
        **_sizes(dataset),
        "evaluation": _summary(card.evaluation_returns),
        "made by": card.command,
        "seed": None if card.seed is None else str(card.seed),
        "versions": versions,
        "pictures drawn by": card.gl_vendor,
        "mixed from": "; ".join(card.parts),
        "sha256": dataset.checksum,
    }
    show_table(("", ""), [(key, value) for key, value in facts.items() if value])


def _sizes(dataset: Dataset) -> dict[str, str]:
    """How much of what there is, and the returns."""
    lengths = [trajectory.num_steps for trajectory in dataset]
    sensors = ", ".join(f"{name} {list(shape)}" for name, shape in dataset.sensor_shapes.items())
    holds = {
        what: sum(getattr(trajectory, what) is not None for trajectory in dataset)
        for what in ("actions", "rewards", "physics_states")
    }
    returns = dataset.episode_returns if holds["rewards"] == len(dataset) else ()
    return {
        "trajectories": f"{len(dataset)} of {_range(lengths)} steps",
        "steps": str(dataset.num_steps),
        "sensors": sensors,
        "also": ", ".join(what.replace("_", " ") for what, number in holds.items() if number),
        "returns": _summary(returns),
    }


def _range(lengths: Sequence[int]) -> str:
    least, most = min(lengths), max(lengths)
    return str(most) if least == most else f"{least} to {most}"


def _summary(returns: Sequence[float] | NDArray[np.float64]) -> str:
    """Mean, least and greatest of some returns."""
    values = np.asarray(returns, dtype=np.float64)
    if not values.size:
        return ""
    low, high = values.min(), values.max()
    return f"mean {values.mean():.1f}, from {low:.1f} to {high:.1f}, of {values.size} episodes"


@app.command
def download(name: tyro.conf.Positional[str], *, sha256: str | None = None) -> None:
    """Download a dataset into the cache, where its name finds it.

    Args:
        name: aime/NAME of one that was published with AIME, such as aime/walker-run-expert;
            hub/USER/REPO or hub/USER/REPO/FOLDER of one on the Hugging Face hub.
        sha256: The checksum that the published archive has to have, where it is known; what is
            here already is not compared with it.
    """
    folder = download_dataset(name, sha256=sha256, progress_bar=is_watched())
    print(f"{name} is in {folder}.")


@app.command
def push(
    name: tyro.conf.Positional[str], *, repo: str, private: bool = False, replace: bool = False
) -> None:
    """Upload a dataset with its card to the Hugging Face hub, where `hf auth login` let you in.

    Args:
        name: A name of `aime-gym datasets list`, or a path.
        repo: USER/NAME, which is made if need be.
        private: Show it to yourself alone, if it is made.
        replace: Replace what the repository has.
    """
    address = push_dataset(name, repo, private=private, replace=replace)
    print(f"{name} is at {address}: aime-gym datasets download hub/{repo}")


@app.command
@writes(out="new_folder")
def make(
    name: tyro.conf.Positional[
        Literal["walker-mix", "walker-mix-pushed", "walker-mix-moments", "cheetah-mix"]
    ],
    *,
    rows: int = 1_000_000,
    seed: int = 0,
    physics: bool = False,
    out: Path | None = None,
) -> None:
    """Make embodiment data at the paper's scale from bundled snapshots, in about two minutes.

    Args:
        name: The dataset's name.
        rows: Observations in all, about.
        seed: Same seed and rows, same data.
        physics: Keep physics states, from which pictures can be drawn.
        out: A new folder; by default one in the cache, where its name finds it.
    """
    from agents.sac import SACAgent

    recipe = dataclasses.replace(RECIPES[name], rows=rows)
    target = out or cache_folder() / "datasets" / name
    check_new_folder(target)
    options = {"rows": rows, "seed": seed, "physics": physics}
    dataset = make_embodiment(
        recipe,
        lambda path: SACAgent.load(path, device="cpu"),
        seed=seed,
        physics=physics,
        progress_bar=True,
        command=shell_command("datasets make", options, [name]),
    )
    save_dataset(dataset, target, sensor_dtype="float16", physics_dtype="float32")
    sources = dict(rows_by_source(dataset))
    shares = coverage(sources)
    table = [(n, f"{len(r):,}", f"{100 * shares[n]:.0f}%") for n, r in sources.items()]
    show_table(("source", "rows", "of the cells seen"), table)
    figure = plot_coverage(project(sources), target.parent / f"{name}-coverage.png")
    print(f"{dataset}\nIt is in {target}; its coverage is drawn in {figure}.")


@app.command
@writes(out="new_folder")
def mix(
    sources: tyro.conf.Positional[tuple[str, ...]],
    *,
    name: str,
    out: Path,
    compact: bool = False,
    description: str = "A mix.",
) -> None:
    """Cut datasets of one body and put them together.

    A source is a name or a path, and what to take of it:
    SOURCE[:max_return=NUMBER,stride=N,episodes=N]. From the left: episodes with a return below
    max_return; of these one in stride; of these the first so many.
    For example: walker-run-training:max_return=300,stride=2 walker-random:episodes=50

    Args:
        sources: At least one.
        name: The mix's name.
        out: A new folder for it.
        compact: Store sensors and actions as float16, physics states as float32.
        description: A sentence for the card.
    """
    options = {"name": name, "out": out, "compact": compact, "description": description}
    command = shell_command("datasets mix", options, sources)
    if not sources:
        raise ValueError(f"There is nothing to mix: give at least one {SYNTAX}.")
    check_new_folder(out)
    pairs = [parse_source(source) for source in sources]
    datasets = [load_dataset(source, progress_bar=is_watched()) for source, _ in pairs]
    selections = [selection for _, selection in pairs]
    mixed = mix_datasets(datasets, name, selections, description=description, command=command)
    sensors, physics = ("float16", "float32") if compact else ("float32", "float64")
    save_dataset(mixed, out, sensor_dtype=sensors, physics_dtype=physics)
    print(f"{mixed}\nIt is in {out}.")


def parse_source(text: str) -> tuple[str, Selection]:
    """``walker-random:stride=2,episodes=50`` -> the name, and what to take of it.

    Raises:
        ValueError: The part after the colon is no selection.
    """
    source, colon, conditions = text.rpartition(":")
    if not colon or "=" not in conditions:
        return text, Selection()
    kinds = {"max_return": float, "stride": int, "episodes": int}
    chosen: dict[str, float | int] = {}
    for condition in conditions.split(","):
        key, _, value = condition.partition("=")
        try:
            chosen[key] = kinds[key](value)
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"{condition!r} of {text!r} selects nothing: a source is {SYNTAX}."
            ) from error
    return source, Selection(**chosen)  # type: ignore[arg-type]


@app.command
@writes(out="new_folder")
def convert(
    name: tyro.conf.Positional[str],
    *,
    format: Literal["aime", "minari", "native"],
    out: Path | None = None,
) -> None:
    """Write a dataset in another format, without loss.

    Args:
        name: A name of `aime-gym datasets list`, or a path.
        format: aime for that of the published datasets, which has no card; minari for
            `minari.load_dataset`; native for this package's.
        out: A new folder. One for minari ends with a version, and by default it is NAME-v0 where
            Minari looks.
    """
    if out is None and format != "minari":
        raise ValueError(f"--out names a new folder for a dataset in the format {format}.")
    stored = find_dataset(name)
    if out is None and is_minari(stored):
        raise ValueError(f"{name} is one of Minari's already; --out names a folder for a copy.")
    target = out or minari_root() / f"{stored.name}-v0"
    check_new_folder(target)
    if format == "minari":
        minari_id(target)
    if format == "minari" or is_minari(stored):
        import_minari()
    dataset = load_dataset(name, progress_bar=is_watched())
    WRITERS[format](dataset, target)
    print(f"{dataset}\nIt is in {target}.")


@app.command
def verify(name: tyro.conf.Positional[str], *, sample: int = 50, seed: int = 0) -> int:
    """Check a dataset's files, episodes and numbers, and its physics states in the simulator.

    Exit code 1 where something is wrong.

    Args:
        name: A name of `aime-gym datasets list`, or a path.
        sample: How many rows the simulator is asked about.
        seed: The seed for the choice of these rows.
    """
    checks = verify_dataset(name, sample=sample, seed=seed, progress_bar=is_watched())
    results = {True: "passed", False: "failed", None: "not possible"}
    rows = [(check.name, results[check.passed], check.detail) for check in checks]
    show_table(("check", "result", "detail"), rows)
    return int(any(check.passed is False for check in checks))


@app.command
@writes(out="file")
def picture(name: tyro.conf.Positional[str], *, out: Path) -> None:
    """Draw a dataset: frames of some episodes, the returns, and which states it has seen.

    Args:
        name: A name of `aime-gym datasets list`, or a path.
        out: The picture's file; its ending chooses the format, such as .png or .pdf.
    """
    check_figure_path(out)
    dataset = load_dataset(name, progress_bar=is_watched())
    print(f"{dataset}\nIts picture is {draw_dataset(dataset, out)}.")


@app.command
@writes(out="new_folder")
def render(name: tyro.conf.Positional[str], *, out: Path | None = None) -> None:
    """Draw a dataset's pictures from its physics states, once, into the cache.

    Args:
        name: A name of `aime-gym datasets list`, or a path.
        out: Write a dataset with the pictures in it, too, to this new folder.
    """
    if out is not None:
        check_new_folder(out)
    dataset = load_dataset(name, images="render", progress_bar=is_watched())
    print(f"{dataset}\nDrawn by {dataset.card.gl_vendor}; cache: {image_folder()}.")
    if out is not None:
        save_dataset(dataset, out, sensor_dtype=None)
        print(f"It is in {out}.")
