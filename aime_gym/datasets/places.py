"""Where datasets and images are kept on this machine."""

from __future__ import annotations

import os
from pathlib import Path

DATA_VARIABLE = "AIME_GYM_DATA"
CACHE_VARIABLE = "AIME_GYM_CACHE"
BUNDLED = Path(__file__).parents[1] / "assets" / "datasets"


def cache_folder() -> Path:
    """AIME_GYM_CACHE where it is set, else the user's cache folder for this package."""
    setting = os.environ.get(CACHE_VARIABLE)
    if setting:
        return Path(setting)
    import pooch

    return Path(pooch.os_cache("aime-gym"))


def image_folder() -> Path:
    """The cache of images, one memory-mapped file a dataset."""
    return cache_folder() / "images"


def dataset_folders() -> list[Path]:
    """The folders which have datasets: those of AIME_GYM_DATA, the cache, the bundled ones."""
    setting = os.environ.get(DATA_VARIABLE, "")
    added = [Path(part).expanduser() for part in setting.split(os.pathsep) if part]
    return [*added, cache_folder() / "datasets", BUNDLED]
