"""Ids of iMuJoCo: ``iMuJoCo/<variant>`` is a robot of Gymnasium's with one part altered.

    hopper-massdec_25_leggeom       robot - category and direction _ percent _ part

The catalogue says which variants there are: the bundled one has 154, each known from what was
published or derived from the published numbers; a folder of published XML files stands in its place
where AIME_GYM_IMUJOCO names one. Any other variant of the same form can be made as well.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import gymnasium as gym

from aime_gym.suggest import did_you_mean

NAMESPACE = "iMuJoCo"
FOLDER_VARIABLE = "AIME_GYM_IMUJOCO"
PUBLISHED_FOLDER = "imujoco"  # In the cache.
CATALOGUE = Path(__file__).parent / "assets" / "imujoco" / "catalogue.json"
FORM = re.compile(r"([a-z0-9]+)-(mass|joint|length|friction)(inc|dec)_(\d+)_(\w+)")
PATTERN = "<robot>-<mass, joint, length or friction><inc or dec>_<percent>_<part>"
EPISODE_STEPS = 1_000

Category = Literal["mass", "joint", "length", "friction"]
Direction = Literal["inc", "dec"]
Status = Literal["base", "known", "derived", "published", "made"]


class Robot(NamedTuple):
    """A robot of Gymnasium's, and the parts of it that can be altered.

    Attributes:
        name: Its name in variants.
        env_class: The class of its environments here.
        published_env: Its environment's name in the published data, without the version.
        geoms: Names of its geoms in MJCF; the cheetah's head belongs to its torso.
        joints: Names of its driven joints in MJCF.
        observation_size: Values of an observation.
        action_size: Values of an action.
    """

    name: str
    env_class: str
    published_env: str
    geoms: tuple[str, ...]
    joints: tuple[str, ...]
    observation_size: int
    action_size: int

    def parts(self, category: Category) -> dict[str, str]:
        """Part -> the geom's or joint's name in MJCF."""
        names = self.joints if category == "joint" else self.geoms
        return {name.replace("_", ""): name for name in names}


_LIMBS = ("thigh", "leg", "foot")
_LEGS = (*_LIMBS, *(f"{limb}_left" for limb in _LIMBS))
_CHEETAH = tuple(f"{side}{limb}" for side in "bf" for limb in ("thigh", "shin", "foot"))
ROBOTS = {
    robot.name: robot
    for robot in (
        Robot(
            "hopper",
            "HopperVariantEnv",
            "Hopper",
            tuple(f"{limb}_geom" for limb in ("torso", *_LIMBS)),
            tuple(f"{limb}_joint" for limb in _LIMBS),
            11,
            3,
        ),
        Robot(
            "halfcheetah",
            "HalfCheetahVariantEnv",
            "HalfCheetah",
            ("torso", *_CHEETAH),
            _CHEETAH,
            17,
            6,
        ),
        Robot(
            "walker2d",
            "Walker2dVariantEnv",
            "Walker2d",
            tuple(f"{limb}_geom" for limb in ("torso", *_LEGS)),
            tuple(f"{limb}_joint" for limb in _LEGS),
            17,
            6,
        ),
    )
}


class Variant(NamedTuple):
    """A robot with one part altered.

    Attributes:
        robot: ``"hopper"``, ``"halfcheetah"`` or ``"walker2d"``.
        category: What is altered: mass, range of a joint, length, or sliding friction.
        direction: Whether it grows or shrinks.
        percent: By how much, in percent of what it was.
        part: The geom or joint, without underscores.
    """

    robot: str
    category: Category
    direction: Direction
    percent: int
    part: str

    @property
    def factor(self) -> float:
        """What the altered quantity is multiplied by."""
        return 1 + (self.percent if self.direction == "inc" else -self.percent) / 100

    @property
    def mjcf_name(self) -> str:
        """The part's name in MJCF."""
        return ROBOTS[self.robot].parts(self.category)[self.part]

    def __str__(self) -> str:
        return f"{self.robot}-{self.category}{self.direction}_{self.percent}_{self.part}"

    @classmethod
    def parse(cls, name: str) -> Variant:
        """``hopper-massdec_25_leggeom`` -> its parts.

        Raises:
            ValueError: The name has another form, the robot or the part does not exist, or the
                percentage leaves nothing; the message says what is right.
        """
        found = FORM.fullmatch(name)
        if found is None:
            raise ValueError(
                f"There is no variant {name!r}: {did_you_mean(name, catalogue())}a variant is "
                f"named {PATTERN}, such as hopper-massdec_25_leggeom."
            )
        robot, category, direction, digits, part = found.groups()
        if robot not in ROBOTS:
            raise ValueError(
                f"There is no robot {robot!r} in {name!r}: {did_you_mean(robot, ROBOTS)}there are "
                f"{', '.join(ROBOTS)}."
            )
        percent = int(digits)
        if percent < 1 or (direction == "dec" and percent >= 100):
            raise ValueError(
                f"{name!r} leaves nothing of what it alters, or all: a percentage is at least 1, "
                "and below 100 for dec."
            )
        variant = cls(robot, category, direction, percent, part)  # type: ignore[arg-type]
        parts = ROBOTS[robot].parts(variant.category)
        if part not in parts:
            raise ValueError(
                f"{robot} has no part {part!r} whose {category} could be altered: "
                f"{did_you_mean(part, parts)}there are {', '.join(parts)}."
            )
        return variant


class Entry(NamedTuple):
    """A body in the catalogue.

    Attributes:
        name: The variant's or the robot's name.
        robot: The robot.
        status: Whether it is a base body, its name is known from what was published, or derived
            from the published numbers, or it is one of the published files.
        xml_file: The published file; None where the body is made here.
    """

    name: str
    robot: str
    status: Status
    xml_file: Path | None = None

    @property
    def env_id(self) -> str:
        """Its environment."""
        return f"{NAMESPACE}/{self.name}"


def catalogue(folder: str | os.PathLike[str] | None = None) -> dict[str, Entry]:
    """Name -> entry of every body: the base bodies first, then their variants.

    Args:
        folder: Published XML files, which stand in place of the bundled catalogue; None for that
            which AIME_GYM_IMUJOCO names, where it is set.

    Raises:
        FileNotFoundError: The folder has no XML file of a variant.
    """
    chosen = folder or os.environ.get(FOLDER_VARIABLE)
    return dict(_read(Path(chosen).expanduser() if chosen else None))


@lru_cache(maxsize=4)
def _read(folder: Path | None) -> dict[str, Entry]:
    bases = {name: Entry(name, name, "base") for name in ROBOTS}
    if folder is None:
        statuses = json.loads(CATALOGUE.read_bytes())
        variants = {n: Entry(n, robot_of(n), status) for n, status in statuses.items()}
    else:
        variants = {e.name: e for e in _published(folder)}
    return {**bases, **variants}


def _published(folder: Path) -> list[Entry]:
    """The variants whose XML files are in a folder, or in its folder ``xml``."""
    place = folder / "xml" if (folder / "xml").is_dir() else folder
    found = [path for path in sorted(place.glob("*.xml")) if path.stem.partition("-")[0] in ROBOTS]
    if not found:
        raise FileNotFoundError(
            f"{place} has no files <variant>.xml of {', '.join(ROBOTS)}: {FOLDER_VARIABLE} names "
            "the folder that xml.zip of iMuJoCo unpacks to."
        )
    return [
        Entry(path.stem, robot_of(path.stem), "published", path)
        for path in found
        if path.stem not in ROBOTS
    ]


def robot_of(name: str) -> str:
    """The robot of a variant's name, ``"hopper"`` for ``"hopper-massdec_25_leggeom"``.

    Raises:
        ValueError: The name starts with no robot.
    """
    robot = name.partition("-")[0]
    if robot not in ROBOTS:
        raise ValueError(
            f"There is no robot {robot!r}: {did_you_mean(robot, ROBOTS)}there are "
            f"{', '.join(ROBOTS)}."
        )
    return robot


def find_body(name: str) -> Entry:
    """The entry of a base body, of a variant in the catalogue, or of any other variant.

    Raises:
        ValueError: There is no such body; the message suggests the closest.
    """
    known = catalogue()
    if name in known:
        return known[name]
    return Entry(name, Variant.parse(name).robot, "made")


def inner_name(env_id: str) -> str | None:
    """The variant's name within ``iMuJoCo/<variant>``; None where it is another id."""
    start, _, name = env_id.partition("/")
    return name if start == NAMESPACE else None


def register_body(entry: Entry) -> str:
    """Registers ``iMuJoCo/<name>``, where it is not yet, and returns it."""
    if entry.env_id not in gym.registry:
        kwargs: dict[str, str] = {}
        if entry.xml_file is not None:
            kwargs["xml_file"] = str(entry.xml_file)
        elif entry.name != entry.robot:
            kwargs["variant"] = entry.name
        gym.register(
            id=entry.env_id,
            entry_point=f"aime_gym.envs.imujoco.environment:{ROBOTS[entry.robot].env_class}",
            max_episode_steps=EPISODE_STEPS,
            kwargs=kwargs,
        )
    return entry.env_id


def register_catalogue() -> None:
    """Makes ``gym.make("iMuJoCo/<variant>")`` known for every body in the catalogue.

    Where AIME_GYM_IMUJOCO names no folder of published files, this says so, and registers nothing.
    """
    try:
        entries = catalogue()
    except FileNotFoundError as error:
        warnings.warn(f"{error} No environment of {NAMESPACE} is known.", stacklevel=2)
        return
    for entry in entries.values():
        register_body(entry)
