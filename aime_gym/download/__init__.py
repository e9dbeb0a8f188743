"""Downloads: a file, an archive as a folder, and datasets and models by their names."""

from aime_gym.download.archives import fetch_folder
from aime_gym.download.imujoco import download_imujoco
from aime_gym.download.named import download_dataset, download_model, push_dataset, push_model
from aime_gym.download.transfer import download_file

__all__ = [
    "download_dataset",
    "download_file",
    "download_imujoco",
    "download_model",
    "fetch_folder",
    "push_dataset",
    "push_model",
]
