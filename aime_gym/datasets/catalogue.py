"""Datasets by name."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from aime_gym.datasets.dataset import Card, Dataset
from aime_gym.datasets.images import cached_images
from aime_gym.datasets.places import DATA_VARIABLE, dataset_folders
from aime_gym.datasets.published import is_published, published_card, read_published
from aime_gym.datasets.storage import CARD, read_card, read_dataset
from aime_gym.trajectory import Trajectory

PUBLISHED = "aime"
RELEASES = "https://github.com/argmax-ai/aime/releases"
ImageSource = Literal["stored", "render", "none"]


def load_dataset(
    name: str | os.PathLike[str], *, images: ImageSource = "stored", progress_bar: bool = True
) -> Dataset:
    """Loads a dataset; nothing is ever downloaded.

    Args:
        name: One of `list_datasets()`, such as ``"walker-run-expert"``, or ``"aime/<name>"`` for
            one that was published with AIME; or a path to a folder, with a separator in it.
        images: ``"stored"``: those in the dataset, if any, memory-mapped; ``"render"``: where there
            are none, draw them from the physics states, once; ``"none"``: leave them out.
        progress_bar: Show the progress where images must be drawn or unpacked.

    Raises:
        FileNotFoundError: There is no such dataset; the message lists what there is.
        ValueError: Several places have one of this name, or a file is damaged.
    """
    if images not in ("stored", "render", "none"):
        raise ValueError(f"images is 'stored', 'render' or 'none', not {images!r}.")
    folder = dataset_path(name)
    if (folder / CARD).is_file():
        dataset = read_dataset(folder)
    else:
        dataset = read_published(folder, images=images != "none", progress_bar=progress_bar)
    if images == "render":
        return cached_images(dataset, progress_bar=progress_bar)
    if images == "none" and dataset.has_images:
        return dataset.map(Trajectory.without_images)
    return dataset


def dataset_path(name: str | os.PathLike[str]) -> Path:
    """The folder of a dataset; see `load_dataset` for names and errors."""
    as_path = Path(name).expanduser()
    is_path = not isinstance(name, str) or any(s in name for s in (os.sep, os.altsep) if s)
    if is_path and as_path.exists():
        if not _is_dataset(as_path):
            raise FileNotFoundError(
                f"{as_path} is no dataset: it has neither {CARD} nor files 0.npz, 1.npz, ..."
            )
        return as_path
    places = [folder / name for folder in dataset_folders() if _is_dataset(folder / name)]
    places = list({place.resolve(): place for place in places}.values())
    if len(places) > 1:
        listed = " and ".join(str(place) for place in places)
        raise ValueError(f"Dataset {str(name)!r} is in several places: {listed}. Remove one.")
    if not places:
        raise FileNotFoundError(_not_found(str(name)))
    return places[0]


def list_datasets() -> dict[str, Card]:
    """Name -> card, for every dataset on this machine that `load_dataset` finds by name.

    One that cannot be read is of body ``"unknown"``, and its description says why.
    """
    return {name: _read_card(folder) for name, folder in _all_datasets()}


def _all_datasets() -> Iterator[tuple[str, Path]]:
    for root in dataset_folders():
        for prefix in ("", f"{PUBLISHED}/"):
            for folder in sorted((root / prefix).glob("*")):
                if _is_dataset(folder):
                    yield prefix + folder.name, folder


def _is_dataset(folder: Path) -> bool:
    return (folder / CARD).is_file() or is_published(folder)


def _read_card(folder: Path) -> Card:
    try:
        return read_card(folder) if (folder / CARD).is_file() else published_card(folder)
    except ValueError as error:
        return Card(name=folder.name, body="unknown", description=str(error))


def _not_found(name: str) -> str:
    known = sorted({known for known, _ in _all_datasets()})
    close = difflib.get_close_matches(name, known, n=1)
    message = f"There is no dataset {name!r} here"
    message += f"; did you mean {close[0]!r}? " if close else ". "
    message += f"There are: {', '.join(known)}." if known else "There are none."
    if name.startswith(f"{PUBLISHED}/"):
        short = name.removeprefix(f"{PUBLISHED}/")
        message += (
            f" AIME's published datasets are release assets of the GitHub repository "
            f"argmax-ai/aime ({RELEASES}; CC BY 4.0): unpack {short}.tgz into "
            f"{PUBLISHED}/{short} of a folder that {DATA_VARIABLE} names."
        )
    elif os.sep not in name:
        searched = ", ".join(str(folder) for folder in dataset_folders())
        message += f" Searched: {searched}; {DATA_VARIABLE} adds folders."
    return message
