"""Downloads: one file, an archive as a folder, and datasets and models by their names."""

from aime_gym.download.archives import fetch_folder

__all__ = ["fetch_folder"]
