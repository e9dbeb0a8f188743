"""Loading a dataset by its name."""

from __future__ import annotations

import os
from typing import Literal

from aime_gym.card import CARD
from aime_gym.catalogue import find_dataset
from aime_gym.datasets.aime_npz import read_aime_npz
from aime_gym.datasets.dataset import Dataset
from aime_gym.datasets.images import cached_images
from aime_gym.datasets.minari import read_minari
from aime_gym.datasets.storage import read_dataset
from aime_gym.download import download_dataset
from aime_gym.minari_folders import is_minari
from aime_gym.trajectory import Trajectory

ImageSource = Literal["stored", "render", "none"]


def load_dataset(
    name: str | os.PathLike[str],
    *,
    images: ImageSource = "stored",
    download: bool = False,
    progress_bar: bool = True,
) -> Dataset:
    """Loads a dataset. Nothing is downloaded unless `download` says so.

    Args:
        name: One of `list_datasets()`, such as ``"walker-run-expert"``, or ``"aime/<name>"`` for
            one that was published with AIME, ``"hub/<user>/<repo>"`` for one from the Hugging Face
            hub, ``"minari/<id>"`` for one in Minari's folder; or a path to a folder.
        images: ``"stored"``: those in the dataset, if any, memory-mapped; ``"render"``: where there
            are none, draw them from the physics states, once; ``"none"``: leave them out.
        download: Fetch one of AIME's or of the hub's that is not on this machine, as
            `download_dataset` does; its errors may be raised, too.
        progress_bar: Show the progress where images must be drawn or unpacked, or data downloaded.

    Raises:
        FileNotFoundError: There is no such dataset; the message lists what there is.
        ValueError: Several folders have one of this name, or a file is damaged.
    """
    if images not in ("stored", "render", "none"):
        raise ValueError(f"images is 'stored', 'render' or 'none', not {images!r}.")
    folder = download_dataset(name, progress_bar=progress_bar) if download else find_dataset(name)
    if (folder / CARD).is_file():
        dataset = read_dataset(folder)
    elif is_minari(folder):
        dataset = read_minari(folder, images=images != "none", progress_bar=progress_bar)
    else:
        dataset = read_aime_npz(folder, images=images != "none", progress_bar=progress_bar)
    if images == "render":
        return cached_images(dataset, progress_bar=progress_bar)
    if images == "none" and dataset.has_images:
        return dataset.map(Trajectory.without_images)
    return dataset
