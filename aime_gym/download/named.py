"""Datasets and models by their names: downloaded into the cache, and pushed to the hub."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from aime_gym.card import Kind
from aime_gym.catalogue import (
    HUB,
    PUBLISHED,
    PUBLISHED_LICENSE,
    RELEASES,
    Name,
    cache_folder,
    find_dataset,
    find_model,
)
from aime_gym.download.archives import fetch_folder
from aime_gym.download.contents import has
from aime_gym.download.hub import HubName, fetch_from_hub, push_to_hub

RELEASES_VARIABLE = "AIME_GYM_RELEASES"
MODELS_ASSET = "pretrained-models.tgz"


def download_dataset(
    name: str | os.PathLike[str], *, sha256: str | None = None, progress_bar: bool = True
) -> Path:
    """Downloads a dataset into the cache, where `load_dataset` finds it; prints its license.

    A dataset that this machine has is not downloaded. The checksum of what was published with AIME
    is recorded; other bytes under the same name are refused later. A download that breaks off goes
    on when it is called again.

    Args:
        name: ``"aime/<name>"`` for one that was published with AIME, such as
            ``"aime/walker-run-expert"``; ``"hub/<user>/<repo>"`` for one on the Hugging Face hub,
            or ``"hub/<user>/<repo>/<folder>"`` where a repository has several.
        sha256: The checksum that the published archive has to have, hexadecimal, where it is known;
            what is here already is not compared with it.
        progress_bar: Show the progress.

    Returns:
        The dataset's folder.

    Raises:
        FileNotFoundError: There is no such dataset.
        ConnectionError: The server refuses, cannot be reached, or breaks off again and again.
        ModuleNotFoundError: The hub's package is missing; the message says what to install.
        OSError: The disk is full, or the hub refuses.
        ValueError: The name has another form; what came has another checksum, is damaged, unsafe,
            or no dataset; or `sha256` is no checksum, or is given for a repository of the hub,
            whose files have their own.
    """
    return _download("dataset", name, sha256, progress_bar)


def download_model(
    name: str | os.PathLike[str], *, sha256: str | None = None, progress_bar: bool = True
) -> Path:
    """Downloads a model into the cache, where `load` finds it; prints its license.

    The models that were published with AIME are in one archive, so the first of them brings all.
    For everything else see `download_dataset`.

    Args:
        name: ``"aime/<name>"``, ``"hub/<user>/<repo>"`` or ``"hub/<user>/<repo>/<folder>"``.
        sha256: The checksum that the published archive has to have, hexadecimal, where it is known;
            what is here already is not compared with it.
        progress_bar: Show the progress.

    Returns:
        What `load` loads: the model's archive, or its folder, where AIME's authors published it.

    Raises:
        FileNotFoundError: There is no such model.
        ConnectionError: The server refuses, cannot be reached, or breaks off again and again.
        ModuleNotFoundError: The hub's package is missing; the message says what to install.
        OSError: The disk is full, or the hub refuses.
        ValueError: The name has another form; what came has another checksum, is damaged, unsafe,
            or no model; or `sha256` is no checksum, or is given for a repository of the hub,
            whose files have their own.
    """
    return _download("model", name, sha256, progress_bar)


def push_dataset(
    name: str | os.PathLike[str], repo: str, *, private: bool = False, replace: bool = False
) -> str:
    """Uploads a dataset with its card to the Hugging Face hub, under the user's own login there.

    Args:
        name: One of `list_datasets()`, or a path; it has a card.
        repo: ``"user/name"``; made if need be.
        private: Show it to its owner alone, if it is made.
        replace: Replace what the repository has.

    Returns:
        The address; `load_dataset` and `download_dataset` know it as ``"hub/user/name"``.

    Raises:
        FileExistsError: The repository has files, and `replace` is False.
        FileNotFoundError: There is no such dataset, or it has no card.
        ModuleNotFoundError: The hub's package is missing; the message says what to install.
        OSError: The hub cannot be reached, or refuses.
        ValueError: `repo` has another form; or the dataset is damaged or unfinished.
    """
    return push_to_hub("dataset", find_dataset(name), repo, private=private, replace=replace)


def push_model(
    name: str | os.PathLike[str], repo: str, *, private: bool = False, replace: bool = False
) -> str:
    """Uploads a model with its card to the Hugging Face hub, under the user's own login there.

    Args:
        name: One of `list_models()`, or a path to a folder with a model and its card.
        repo: ``"user/name"``; made if need be.
        private: Show it to its owner alone, if it is made.
        replace: Replace what the repository has.

    Returns:
        The address; `download_model` knows it as ``"hub/user/name"``.

    Raises:
        FileExistsError: The repository has files, and `replace` is False.
        FileNotFoundError: There is no such model, or it has no card.
        ModuleNotFoundError: The hub's package is missing; the message says what to install.
        OSError: The hub cannot be reached, or refuses.
        ValueError: `repo` has another form; or the model is damaged.
    """
    found = find_model(name)
    folder = found if found.is_dir() else found.parent
    return push_to_hub("model", folder, repo, private=private, replace=replace)


def _download(kind: Kind, name: Name, sha256: str | None, progress_bar: bool) -> Path:
    find = find_dataset if kind == "dataset" else find_model
    try:
        return find(name)
    except FileNotFoundError:
        group, _, rest = str(name).partition("/")
        if group == HUB:
            _fetch_from_hub(kind, HubName.parse(str(name)), sha256, progress_bar)
        elif group == PUBLISHED:
            _fetch_published(kind, rest, sha256, progress_bar)
        else:
            raise
    return find(name)


def _fetch_from_hub(kind: Kind, name: HubName, sha256: str | None, progress_bar: bool) -> None:
    if sha256 is not None:
        raise ValueError("A repository of the hub has checksums of its own; leave out sha256.")
    folder = cache_folder() / f"{kind}s" / str(name)
    announce = partial(_announce, str(name))
    fetch_from_hub(name, kind, folder, announce=announce, progress_bar=progress_bar)


def _fetch_published(kind: Kind, name: str, sha256: str | None, progress_bar: bool) -> None:
    """Fetches the archive of a dataset, or that of all models."""
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(f"What AIME's authors published is named {PUBLISHED}/<name>: {name!r}?")
    published = cache_folder() / f"{kind}s" / PUBLISHED
    holds: Callable[[Path], bool]
    base = (os.environ.get(RELEASES_VARIABLE) or f"{RELEASES}/latest/download").rstrip("/")
    if kind == "dataset":
        url, folder, holds = f"{base}/{name}.tgz", published / name, partial(has, kind)
    else:
        url, folder, holds = f"{base}/{MODELS_ASSET}", published, _has_models
    if not folder.exists():
        _announce(f"{PUBLISHED}/{name}", url, PUBLISHED_LICENSE)
    try:
        fetch_folder(url, folder, holds, sha256=sha256, progress_bar=progress_bar)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error} {RELEASES} lists what there is; {RELEASES_VARIABLE} names another address."
        ) from error
    if kind == "model" and not has(kind, published / name):
        names = ", ".join(sorted(path.name for path in published.iterdir() if has(kind, path)))
        raise FileNotFoundError(
            f"The published models have no {name!r}, but {names}. If one was deleted, delete "
            f"{published}, and all are downloaded anew."
        )


def _has_models(folder: Path) -> bool:
    return any(has("model", path) for path in folder.iterdir())


def _announce(name: str, address: str, license: str) -> None:
    print(f"Downloading {name} from {address}; license: {license}.", flush=True)
