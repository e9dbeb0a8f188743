"""iMuJoCo: imitation across altered bodies (Patacchiola et al. 2023, arXiv:2306.13554).

Names of variants, their bodies, and the published data. The environments are
``gym.make("iMuJoCo/<variant>")``; policies and experiments are in `agents.imujoco`.
"""

from aime_gym.datasets.imujoco_npz import Sampler, read_imujoco_npz, write_imujoco_npz
from aime_gym.download.imujoco import download_imujoco, imujoco_folder
from aime_gym.envs.imujoco.builder import build, to_xml, write_xml
from aime_gym.imujoco_ids import ROBOTS, Entry, Variant, catalogue, find_body

__all__ = [
    "ROBOTS",
    "Entry",
    "Sampler",
    "Variant",
    "build",
    "catalogue",
    "download_imujoco",
    "find_body",
    "imujoco_folder",
    "read_imujoco_npz",
    "to_xml",
    "write_imujoco_npz",
    "write_xml",
]
