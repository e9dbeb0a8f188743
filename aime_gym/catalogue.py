"""Where datasets and models are found, by name or by path, and what their cards say.

Datasets lie in the folders of AIME_GYM_DATA, in the cache and in this package; models in those of
AIME_GYM_MODELS, in the cache and in this package. What was published with AIME is named
``aime/<name>``, and lies in a folder ``aime`` of one of these.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from aime_gym.card import CARD, NO_LICENSE, Card, Kind, Origin, Source, read_card
from aime_gym.files import home_folder, sha256
from aime_gym.foreign import is_name, printable
from aime_gym.ids import body_of, did_you_mean, find_env_id, list_environments, task_name
from aime_gym.minari_folders import PREFIX, find_minari, is_minari, minari_card, minari_datasets

DATA_VARIABLE = "AIME_GYM_DATA"
MODELS_VARIABLE = "AIME_GYM_MODELS"
CACHE_VARIABLE = "AIME_GYM_CACHE"

ARCHIVE = "model.zip"  # In the folder of a model.
CHECKPOINT, FINAL, CONFIG = "checkpoint.zip", "final.zip", "config.json"  # In a run folder.
OLD_EXPERT = ("checkpoint.json", f"best/{ARCHIVE}")  # One is in the run folders of version 0.1.
PUBLISHED_CONFIG, PUBLISHED_WEIGHTS = "config.yaml", "model.pt"  # In the folder of AIME's models.

MADE_HERE = (  # Too large to bundle.
    "walker-mix", "walker-mix-pushed", "walker-mix-moments", "cheetah-mix"
)  # fmt: skip
PUBLISHED, HUB = "aime", "hub"  # What the names of datasets and models from elsewhere start with.
PUBLISHED_LICENSE = "CC-BY-4.0"
RELEASES = "https://github.com/argmax-ai/aime/releases"
UNKNOWN = "unknown"
_ASSETS = Path(__file__).parent / "assets"

Name = str | os.PathLike[str]


def cache_folder() -> Path:
    """AIME_GYM_CACHE where it is set, else the user's cache folder for this package.

    Of a user without a home folder it is among the temporary files, which a warning says once.
    """
    setting = os.environ.get(CACHE_VARIABLE)
    if setting:
        return Path(setting).expanduser()
    import pooch  # Takes a while to load, and is needed here alone.

    try:
        return Path(pooch.os_cache("aime-gym"))
    except RuntimeError:
        return home_folder() / "cache"


def dataset_folders() -> list[Path]:
    """The folders that have datasets: those of AIME_GYM_DATA, the cache's, the bundled one."""
    return _folders(DATA_VARIABLE, "datasets")


def model_folders() -> list[Path]:
    """The folders that have models: those of AIME_GYM_MODELS, the cache's, the bundled one."""
    return _folders(MODELS_VARIABLE, "models")


def find_dataset(name: Name) -> Path:
    """The folder of a dataset.

    Args:
        name: One of `list_datasets()`, such as ``"walker-run-expert"``, or ``"aime/<name>"`` for
            one that was published with AIME, ``"minari/<id>"`` for one of Minari's; or a path to a
            folder.

    Raises:
        FileNotFoundError: There is no such dataset; the message lists what there is.
        ValueError: Several folders have one of this name.
    """
    if str(name).startswith(PREFIX) and _dataset_in(Path(name)) is None:
        return find_minari(str(name))
    return _find(name, _DATASETS)


def find_model(name: Name) -> Path:
    """What to load for a model: its archive, or a folder that was published with AIME.

    Args:
        name: One of `list_models()`, or ``"aime/<name>"`` for one that was published with AIME; or
            a path to an archive (``.zip`` need not be written), to the folder of a model, or to a
            run folder, which has its last checkpoint where the run has not ended.

    Raises:
        FileNotFoundError: There is no such model, and the message lists what there is; or the run
            has no result yet.
        ValueError: Several folders have one of this name; or the model is damaged: its checksum is
            not that of its card.
    """
    found = _find(name, _MODELS)
    weights = _weights(found)
    card = _own_model_card(weights)
    if card is not None and card.sha256.get(weights.name) != _checksum(weights):
        raise ValueError(
            f"{weights} is damaged: its checksum is not that of {weights.with_name(CARD)}. "
            "Fetch it again, or make it anew."
        )
    return found


def list_datasets() -> dict[str, Card]:
    """Name -> card, for every dataset that `load_dataset` finds by name on this machine.

    A dataset whose card cannot be read has body ``"unknown"``, and its description says why.
    """
    found = (*_all(_DATASETS), *minari_datasets())
    return {name: _card_or_reason(name, folder, _DATASETS) for name, folder in found}


def list_models() -> dict[str, Card]:
    """Name -> card, for every model that `load` finds by name on this machine.

    A model whose card cannot be read has body ``"unknown"``, and its description says why.
    """
    return {name: _card_or_reason(name, folder, _MODELS) for name, folder in _all(_MODELS)}


def dataset_card(folder: Path) -> Card:
    """The card of a dataset's folder: its own, or else a guess by the folder's name.

    Raises:
        ValueError: The card is damaged, or is that of a model; or the name does not tell the body.
    """
    if (folder / CARD).is_file():
        return read_card_of("dataset", folder)
    return minari_card(folder) if is_minari(folder) else guess_dataset_card(folder)


def read_card_of(kind: Kind, folder: Path) -> Card:
    """Reads the card of a dataset, or of a model.

    Raises:
        FileNotFoundError: The folder has no card.
        ValueError: The card is damaged, or is of another kind.
    """
    card = read_card(folder)
    if card.kind != kind:
        raise ValueError(f"{folder} has the card of a {card.kind}, {card.name!r}, not of a {kind}.")
    return card


def guess_dataset_card(folder: Path) -> Card:
    """A card from a folder's name; one in a folder ``aime`` is taken for AIME's own.

    That of another says nothing of its license.

    Raises:
        ValueError: The name does not start with a body.
    """
    folder = folder.resolve()
    guess = guess_env(folder.name)
    if guess is None:
        raise ValueError(
            f"The name of {folder} does not start with a body, as in walker-run-expert; rename "
            "it, or say what it is: read_aime_npz(folder, card=Card(name=..., body=...))."
        )
    body, env_id = guess
    if _is_published(folder):
        return _published_card("dataset", f"{PUBLISHED}/{folder.name}", body, env_id)
    return Card(name=folder.name, body=body, env_id=env_id, license=NO_LICENSE)


def dataset_origin(name: Name) -> Origin:
    """Name, source and checksum of a dataset; the errors are those of `find_dataset`."""
    return dataset_card(find_dataset(name)).origin


def model_origin(name: Name) -> Origin:
    """Name, source and checksum of a model; the errors are those of `find_model`."""
    found = find_model(name)
    weights = _weights(found)
    card = _own_model_card(weights)
    if card is not None:
        return card.origin
    source: Source = "aime" if found.is_dir() and _is_published(found) else "user"
    return Origin(os.fspath(name), source, _checksum(weights))


def guess_env(name: str) -> tuple[str, str | None] | None:
    """``walker-run-expert`` -> the body and the environment that its name starts with.

    Returns:
        The body, with None where the name has no task, as ``walker-mix``; None for no body.
    """
    bodies = {body_of(env_id) for env_id in list_environments()}
    body = max((body for body in bodies if _starts_with(name, body)), key=len, default=None)
    if body is None:
        return None
    for env_id in state_env_ids(body):
        if _starts_with(name, task_name(env_id)):
            return body, env_id
    return body, None


def state_env_ids(body: str) -> list[str]:
    """The ids of a body whose observations are vectors, one per task; none for other bodies."""
    known = ((env_id, find_env_id(env_id)) for env_id in list_environments())
    return [
        env_id for env_id, parts in known if parts and (parts.body, parts.setup) == (body, "mdp")
    ]


@dataclass(frozen=True)
class _Shelf:
    """What the look-up needs to know of datasets, or of models."""

    noun: Kind
    variable: str
    folders: Callable[[], list[Path]]
    find_in: Callable[[Path], Path | None]  # A folder in one of `folders` -> what is loaded.
    find_at: Callable[[Path], Path | None]  # A path that the user gives -> what is loaded.
    card: Callable[[str, Path], Card]  # A name and its folder -> its card.
    holds: str  # What a path should have, for errors.


def _find(name: Name, shelf: _Shelf) -> Path:
    """What is loaded under a name: of a path, then of the folders, then of the working folder."""
    path = Path(name).expanduser()
    if _is_path(name) and (found := shelf.find_at(path)) is not None:
        return found
    if _is_path(name) and path.exists():
        raise FileNotFoundError(f"{path} is no {shelf.noun}: it has neither {shelf.holds}.")
    named = shelf.folders() if is_name(str(name)) else []
    places = (shelf.find_in(folder / path) for folder in named)
    distinct = {place.resolve(): place for place in places if place is not None}
    if len(distinct) > 1:
        listed = " and ".join(str(place) for place in distinct.values())
        raise ValueError(f"There are several {shelf.noun}s {str(name)!r}: {listed}. Remove one.")
    found = next(iter(distinct.values()), None) or shelf.find_at(path)
    if found is None:
        raise FileNotFoundError(_not_found(str(name), shelf))
    return found


def _is_path(name: Name) -> bool:
    separators = [separator for separator in (os.sep, os.altsep) if separator]
    return not isinstance(name, str) or any(separator in name for separator in separators)


def _not_found(name: str, shelf: _Shelf) -> str:
    known = sorted({known for known, _ in _all(shelf)})
    message = f"There is no {shelf.noun} {name!r} here: {did_you_mean(name, known)}"
    message += f"there are {', '.join(known)}." if known else "there are none."
    if shelf.noun == "dataset" and name in MADE_HERE:
        return (
            f"The dataset {name!r} is not bundled: it is made in about two minutes with "
            f"`aime-gym datasets make {name}`."
        )
    if name.startswith(f"{PUBLISHED}/"):
        message += (
            f" AIME's published {shelf.noun}s are release assets of the GitHub repository "
            f"argmax-ai/aime ({RELEASES}; CC BY 4.0): `aime-gym {shelf.noun}s download {name}`."
        )
    elif name.startswith(f"{HUB}/"):
        message += f" `aime-gym {shelf.noun}s download {name}` asks the Hugging Face hub for it."
    else:
        searched = ", ".join(str(folder) for folder in shelf.folders())
        message += f" Searched: {searched}; {shelf.variable} adds folders."
    return message


def _folders(variable: str, name: str) -> list[Path]:
    """The folders that a variable lists, that of the cache and the bundled one, each once."""
    listed = os.environ.get(variable, "").split(os.pathsep)
    added = [Path(folder).expanduser() for folder in listed if folder]
    folders: dict[Path, Path] = {}
    for folder in (*added, cache_folder() / name, _ASSETS / name):
        folders.setdefault(folder.resolve(), folder)
    return list(folders.values())


def _all(shelf: _Shelf) -> Iterator[tuple[str, Path]]:
    """(name, folder) of everything that has a name."""
    for root in shelf.folders():
        for pattern in ("*", f"{PUBLISHED}/*", f"{HUB}/*/[!.]*", f"{HUB}/*/[!.]*/*"):
            for folder in sorted(root.glob(pattern)):
                name = folder.relative_to(root).as_posix()
                if is_name(name) and shelf.find_in(folder) is not None:
                    yield name, folder


def _card_or_reason(name: str, folder: Path, shelf: _Shelf) -> Card:
    """A card; or one whose description says why the true one cannot be read."""
    try:
        return shelf.card(name, folder)
    except (OSError, ValueError) as error:
        return Card(name, UNKNOWN, kind=shelf.noun, description=printable(str(error)))


def _is_published(folder: Path) -> bool:
    """Whether a folder in the published layout is taken for one that AIME's authors published."""
    return folder.resolve().parent.name == PUBLISHED


def _published_card(kind: Kind, name: str, body: str, env_id: str | None) -> Card:
    """The card of what was published with AIME."""
    return Card(
        name=name,
        body=body,
        kind=kind,
        env_id=env_id,
        description="Published with AIME (Zhang et al., NeurIPS 2023).",
        source="aime",
        license=PUBLISHED_LICENSE,
    )


def _dataset_in(folder: Path) -> Path | None:
    own = (folder / CARD).is_file() and _model_in(folder) is None
    return folder if own or (folder / "0.npz").is_file() or is_minari(folder) else None


def _model_in(folder: Path) -> Path | None:
    """The archive of a model's folder, or the folder where AIME's authors published it."""
    if (folder / ARCHIVE).is_file():
        return folder / ARCHIVE
    published = (folder / PUBLISHED_CONFIG).is_file() and (folder / PUBLISHED_WEIGHTS).is_file()
    return folder if published else None


def _model_at(path: Path) -> Path | None:
    """The model of a path: an archive, the folder of a model, or a run folder."""
    if path.is_file():
        return path
    for found in (_model_in(path), path / FINAL, path / CHECKPOINT):
        if found is not None and found.exists():
            return found
    if path.name and not path.suffix and path.with_suffix(".zip").is_file():
        return path.with_suffix(".zip")
    if is_old_expert(path):
        raise FileNotFoundError(
            f"{path} has an expert of version 0.1, which this version cannot read: train it anew "
            "with `aime-gym train expert`."
        )
    if (path / CONFIG).is_file():
        raise FileNotFoundError(
            f"The run in {path} has no result yet: there is neither {FINAL} nor {CHECKPOINT}. "
            "Start it again to go on."
        )
    return None


def is_old_expert(folder: Path) -> bool:
    """Whether a folder has an expert that version 0.1 trained."""
    return any((folder / name).is_file() for name in OLD_EXPERT)


def _weights(found: Path) -> Path:
    """The file with the weights of what `find_model` found."""
    return found if found.is_file() else found / PUBLISHED_WEIGHTS


def _checksum(path: Path) -> str:
    """The SHA-256 of a file, computed once as long as the file stays as it is."""
    about = path.stat()
    return _hash(path.resolve(), about.st_size, about.st_mtime_ns, about.st_ino)


@lru_cache(maxsize=64)
def _hash(path: Path, size: int, changed_at: int, inode: int) -> str:
    return sha256(path)


def _own_model_card(weights: Path) -> Card | None:
    """The card beside a model's weights, where it is theirs."""
    if not (weights.parent / CARD).is_file():
        return None
    card = read_card(weights.parent)
    own = weights.name in (ARCHIVE, PUBLISHED_WEIGHTS) or weights.name in card.sha256
    return card if card.kind == "model" and own else None


def _model_card(name: str, folder: Path) -> Card:
    """The card of a model's folder: that of ``card.json``, or else a guess by the folder's name."""
    if (folder / CARD).is_file():
        return read_card_of("model", folder)
    body, env_id = guess_env(folder.name) or (UNKNOWN, None)
    if _is_published(folder) and not (folder / ARCHIVE).is_file():
        return _published_card("model", name, body, env_id)
    return Card(name=name, body=body, kind="model", env_id=env_id, license=NO_LICENSE)


def _starts_with(name: str, start: str) -> bool:
    return name == start or name.startswith(f"{start}-")


_DATASETS = _Shelf(
    noun="dataset",
    variable=DATA_VARIABLE,
    folders=dataset_folders,
    find_in=_dataset_in,
    find_at=_dataset_in,
    card=lambda name, folder: dataset_card(folder),
    holds=f"{CARD} nor files 0.npz, 1.npz, ...",
)
_MODELS = _Shelf(
    noun="model",
    variable=MODELS_VARIABLE,
    folders=model_folders,
    find_in=_model_in,
    find_at=_model_at,
    card=_model_card,
    holds=f"{ARCHIVE}, nor {PUBLISHED_CONFIG} and {PUBLISHED_WEIGHTS}, nor {FINAL} of a run",
)
