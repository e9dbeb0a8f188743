"""Minari's datasets on disk: where they lie and what they are, told without Minari.

    MINARI_DATASETS_PATH/
        walker-run-expert-v0/
            data/metadata.json      spaces, environment; of ours, the card and the layout as well
            data/main_data.hdf5     the arrays, one group an episode

Their names here are ``minari/<id>``; `aime_gym.datasets.minari` reads and writes them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym

from aime_gym.card import NO_LICENSE, Card
from aime_gym.files import home_folder
from aime_gym.foreign import is_name, parse_json, printable, read_json
from aime_gym.ids import body_of, did_you_mean

PREFIX = "minari/"  # In front of an id, it names a dataset of Minari's.
VARIABLE = "MINARI_DATASETS_PATH"
DATA = "data"
METADATA, ARRAYS = f"{DATA}/metadata.json", f"{DATA}/main_data.hdf5"
OURS = "aime_gym"  # The key of the metadata that only datasets of this package have.
DATASET_ID = re.compile(r"(?:[\w-]+/)*[\w-]+-v\d+")
VERSION = re.compile(r"-v\d+$")


def minari_root() -> Path:
    """The folder that `minari.load_dataset` searches: MINARI_DATASETS_PATH, or Minari's default."""
    setting = os.environ.get(VARIABLE)
    return Path(setting) if setting else home_folder() / ".minari" / "datasets"


def is_minari(folder: Path) -> bool:
    """Whether a folder is that of a dataset of Minari's."""
    return (folder / METADATA).is_file()


def minari_datasets() -> Iterator[tuple[str, Path]]:
    """The name ``minari/<id>`` and the folder of each dataset where Minari looks."""
    root = minari_root()
    for path in sorted(root.glob(f"**/{METADATA}")):
        folder = path.parents[1]
        yield PREFIX + folder.relative_to(root).as_posix(), folder


def find_minari(name: str) -> Path:
    """The folder of a dataset where Minari looks.

    Args:
        name: Its id, with ``minari/`` in front.

    Raises:
        FileNotFoundError: It is not there; the message says what is, and how to fetch it.
    """
    folder = minari_root() / name.removeprefix(PREFIX)
    if is_name(name) and is_minari(folder):
        return folder
    known = [other for other, _ in minari_datasets()]
    there = f"there are {', '.join(known)}" if known else "there are none"
    raise FileNotFoundError(
        f"There is no dataset {name!r} in {minari_root()}: {did_you_mean(name, known)}{there}. "
        f"`minari download {name.removeprefix(PREFIX)}` fetches what Minari publishes; {VARIABLE} "
        "names another folder."
    )


def minari_id(folder: Path) -> str:
    """The id of a dataset by its folder: from Minari's own folder on, else the last part alone.

    Raises:
        ValueError: It has no version, or other signs than letters, digits, ``-`` and ``_``.
    """
    place, root = folder.expanduser().resolve(), minari_root().expanduser().resolve()
    found = place.relative_to(root).as_posix() if root in place.parents else place.name
    if DATASET_ID.fullmatch(found) is None:
        raise ValueError(
            f"A dataset of Minari's has letters, digits, - and _ in its name, and a version at the "
            f"end, as in walker-run-expert-v0; got {found!r}."
        )
    return found


def read_metadata(folder: Path) -> dict[str, Any]:
    """What ``metadata.json`` holds.

    Raises:
        ValueError: The file is damaged.
    """
    path = folder / METADATA
    metadata = read_json(path, "damaged")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("dataset_id"), str):
        raise ValueError(f"{path} is not of a dataset: it has no dataset_id.")
    return metadata


def minari_card(folder: Path) -> Card:
    """The card of a dataset of Minari's: the one that it was written with, or what is known of it.

    Raises:
        ValueError: The metadata are damaged.
    """
    metadata = read_metadata(folder)
    if OURS in metadata:
        try:
            return Card.from_json(metadata[OURS]["card"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{folder / METADATA} has no card: {error}") from error
    dataset_id = metadata["dataset_id"]
    env_id = _env_id(metadata)
    known = env_id if env_id in gym.registry else None
    named = VERSION.sub("", (env_id or dataset_id).split("/")[-1])
    return Card(
        name=PREFIX + dataset_id,
        body=named if known is None else body_of(known),
        env_id=known,
        description=printable(" ".join(str(metadata.get("description", "")).split())),
        license=NO_LICENSE,  # Minari records none.
    )


def _env_id(metadata: Mapping[str, Any]) -> str | None:
    """The id of the environment that the data were recorded in; None where they do not say.

    Raises:
        ValueError: What they say is damaged.
    """
    spec = metadata.get("env_spec")
    try:
        return None if spec is None else str(parse_json(spec, "env_spec")["id"])
    except (KeyError, TypeError, ValueError) as error:
        name = metadata["dataset_id"]
        raise ValueError(f"The metadata of {name} name no environment: {spec!r}.") from error
