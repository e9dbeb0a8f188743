"""Datasets: reading, writing, collecting and mixing trajectories."""

from aime_gym.datasets.catalogue import dataset_path, list_datasets, load_dataset
from aime_gym.datasets.checks import check_dataset
from aime_gym.datasets.collect import collect
from aime_gym.datasets.dataset import Card, Dataset
from aime_gym.datasets.images import cached_images, render_images, verify_images
from aime_gym.datasets.mix import Selection, mix
from aime_gym.datasets.published import read_published, write_published
from aime_gym.datasets.storage import EpisodeWriter, read_dataset, save_dataset
from aime_gym.trajectory import Trajectory

__all__ = [
    "Card",
    "Dataset",
    "EpisodeWriter",
    "Selection",
    "Trajectory",
    "cached_images",
    "check_dataset",
    "collect",
    "dataset_path",
    "list_datasets",
    "load_dataset",
    "mix",
    "read_dataset",
    "read_published",
    "render_images",
    "save_dataset",
    "verify_images",
    "write_published",
]
