"""Where world models are found: bundled, in the folders of AIME_GYM_MODELS, or at a path."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import aime_gym
from agents.archive import archive_path
from aime_gym.files import atomic_write, sha256

BUNDLED = Path(aime_gym.__file__).parent / "assets" / "models"
MODELS_VARIABLE = "AIME_GYM_MODELS"
ARCHIVE, CARD = "model.zip", "card.json"


def find_model(name: str | os.PathLike[str]) -> Path:
    """The archive, or the published folder, of a model.

    Args:
        name: A name; a path where it exists on disk and has a separator or an ending, which
            ``.zip`` need not be written out.

    Raises:
        FileNotFoundError: There is none; the message lists what there is.
        ValueError: The name is found twice.
    """
    text = os.fspath(name)
    path = Path(text)
    if path.exists() and (os.sep in text or path.suffix == ".zip"):
        return _model_in(path) or path
    saved = archive_path(path)
    if saved.exists() and os.sep in text:
        return saved
    found = [place for folder in _folders() if (place := _model_in(folder / text)) is not None]
    if len(found) > 1:
        raise ValueError(f"There are two models {text!r}: {found[0]} and {found[1]}.")
    if not found and saved.exists():
        return saved
    if not found:
        raise FileNotFoundError(
            f"There is no world model {text!r}. Known: {', '.join(list_models()) or 'none'}. "
            f"{MODELS_VARIABLE} adds folders; published models (release assets of "
            "github.com/argmax-ai/aime) are unpacked to aime/<name> there."
        )
    return found[0]


def list_models() -> list[str]:
    """Names that `WorldModel.load` accepts."""
    names = set()
    for folder in _folders():
        for place in (*folder.glob("*"), *folder.glob("aime/*")):
            if _model_in(place) is not None:
                names.add(str(place.relative_to(folder)))
    return sorted(names)


@dataclass(frozen=True)
class ModelCard:
    """What a world model is and how to make it again.

    Attributes:
        name: Its name for `WorldModel.load`.
        env_id: An environment of its body and setup.
        command: The shell command that makes it.
        seed: That command's seed.
        dataset: Name of the embodiment data.
        dataset_checksum: Their checksum.
        updates: Gradient updates.
        metrics: Means over the last logged interval, as in the learning curve.
        versions: Package -> version at the making.
        source: Who made it.
        licence: SPDX identifier of its licence.
        sha256: File name -> checksum.
    """

    name: str
    env_id: str
    command: str
    seed: int
    dataset: str
    dataset_checksum: str
    updates: int
    metrics: dict[str, float]
    versions: dict[str, str]
    source: str = "user"
    licence: str = "MIT"
    sha256: dict[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Writes ``card.json`` beside the model's archive."""
        card = asdict(self) | {"sha256": {ARCHIVE: sha256(folder / ARCHIVE)}}
        with atomic_write(folder / CARD, "w") as file:
            json.dump(card, file, indent=1)
            file.write("\n")


def model_origin(name: str | os.PathLike[str]) -> tuple[str, str, str]:
    """Name, source and SHA-256 of a model, for score tables.

    The source is ``"aime-gym"`` for bundled models, ``"aime"`` for published ones, else ``"user"``.
    """
    place = find_model(name)
    weights = place if place.is_file() else place / "model.pt"
    bundled = place.is_relative_to(BUNDLED)
    source = "aime-gym" if bundled else "user" if place.is_file() else "aime"
    return os.fspath(name), source, sha256(weights)


def _folders() -> list[Path]:
    """The bundled models and AIME_GYM_MODELS, each folder once."""
    added = os.environ.get(MODELS_VARIABLE, "").split(os.pathsep)
    folders: dict[Path, Path] = {}
    for folder in (BUNDLED, *(Path(name).expanduser() for name in added if name)):
        folders.setdefault(folder.resolve(), folder)
    return list(folders.values())


def _model_in(folder: Path) -> Path | None:
    if (folder / ARCHIVE).exists():
        return folder / ARCHIVE
    if (folder / "config.yaml").exists() and (folder / "model.pt").exists():
        return folder
    return None
