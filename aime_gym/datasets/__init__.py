"""Datasets: reading, writing, collecting and mixing trajectories."""

from aime_gym.card import Card
from aime_gym.catalogue import find_dataset, list_datasets
from aime_gym.datasets.aime_npz import read_aime_npz, write_aime_npz
from aime_gym.datasets.checks import check_dataset
from aime_gym.datasets.collect import collect
from aime_gym.datasets.dataset import Dataset
from aime_gym.datasets.images import cached_images, render_images, verify_images
from aime_gym.datasets.imujoco_npz import read_imujoco_npz, write_imujoco_npz
from aime_gym.datasets.load import load_dataset
from aime_gym.datasets.minari import read_minari, write_minari
from aime_gym.datasets.mix import Selection, mix
from aime_gym.datasets.storage import read_dataset, save_dataset
from aime_gym.datasets.verify import Check, verify_dataset, verify_trajectories
from aime_gym.datasets.writer import EpisodeWriter
from aime_gym.trajectory import Trajectory

__all__ = [
    "Card",
    "Check",
    "Dataset",
    "EpisodeWriter",
    "Selection",
    "Trajectory",
    "cached_images",
    "check_dataset",
    "collect",
    "find_dataset",
    "list_datasets",
    "load_dataset",
    "mix",
    "read_aime_npz",
    "read_dataset",
    "read_imujoco_npz",
    "read_minari",
    "render_images",
    "save_dataset",
    "verify_dataset",
    "verify_images",
    "verify_trajectories",
    "write_aime_npz",
    "write_imujoco_npz",
    "write_minari",
]
