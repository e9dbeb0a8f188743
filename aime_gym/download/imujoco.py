"""What was published with iMuJoCo: its bodies, policies and data, downloaded by name.

xml.zip         one XML file per variant
policies.zip    one SAC policy per variant, of Stable-Baselines3
dataset.zip     one .npz file per variant, 2.7 GB
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from aime_gym.catalogue import cache_folder
from aime_gym.download.archives import fetch_folder
from aime_gym.imujoco_ids import PUBLISHED_FOLDER
from aime_gym.suggest import did_you_mean

ADDRESS_VARIABLE = "AIME_GYM_IMUJOCO_ADDRESS"
RECORD = "https://zenodo.org/records/7971395"
FILES = {"xml": "*.xml", "policies": "*.zip", "dataset": "*.npz"}  # Archive -> what is in it.


def imujoco_folder() -> Path:
    """Where what was published with iMuJoCo is kept: a folder for each archive, in the cache."""
    return cache_folder() / PUBLISHED_FOLDER


def download_imujoco(name: str, *, sha256: str | None = None, progress_bar: bool = True) -> Path:
    """Downloads one of the published archives into the cache, and unpacks it.

    What this machine has is not downloaded. The archive's checksum is recorded, and other bytes
    under the same name are refused later; a download that breaks off goes on when it is called
    again. AIME_GYM_IMUJOCO_ADDRESS names another place that has the archives.

    Args:
        name: ``"xml"``, ``"policies"`` or ``"dataset"``.
        sha256: The checksum that the archive has to have, hexadecimal, where it is known.
        progress_bar: Show the progress.

    Returns:
        The folder with the files. That of ``"xml"`` can be the catalogue: see
        `aime_gym.imujoco_ids.catalogue`.

    Raises:
        ConnectionError: The server refuses, cannot be reached, or breaks off again and again.
        FileNotFoundError: The server has no such archive.
        OSError: The disk is full.
        ValueError: There is no such archive; or what came has another checksum, is damaged or
            unsafe, or is something else; or `sha256` is no checksum.
    """
    if name not in FILES:
        raise ValueError(
            f"iMuJoCo has no archive {name!r}: {did_you_mean(name, FILES)}there are "
            f"{', '.join(FILES)}."
        )
    base = (os.environ.get(ADDRESS_VARIABLE) or f"{RECORD}/files").rstrip("/")
    url, folder = f"{base}/{name}.zip", imujoco_folder() / name
    if not folder.exists():
        print(f"Downloading iMuJoCo's {name} from {url}; {RECORD} has its license.", flush=True)
    holds = partial(_has, FILES[name])
    return fetch_folder(url, folder, holds, sha256=sha256, progress_bar=progress_bar)


def _has(pattern: str, folder: Path) -> bool:
    return folder.is_dir() and any(folder.glob(pattern))
