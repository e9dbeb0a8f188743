"""The bodies of iMuJoCo: Gymnasium's robots with one part altered, as MuJoCo specifications.

    body     a robot's own, with the cheetah's total mass as a density
    mass     density x f, of the named geom; the inertia follows
    joint    range x f about zero
    friction sliding friction x f, and the geom decides on its contacts alone
    length   half-length of the capsule x f, radius and density kept; what is attached follows

Geometry of a length: in the frame of its body, a capsule with half-length h, centre c and unit axis
a covers s from -h to h along a. Its joint, at j, is held by the nearest point of it, at
s_j = clip((j - c).a, -h, h). A point x that is attached to it moves by

    (f - 1) (clip((x - c).a, -h, h) - s_j) a,

so that the joint stays where it is, and every joint as near to the capsule as it was.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from aime_gym.files import atomic_write
from aime_gym.imujoco_ids import ROBOTS, Variant

FILES = {"hopper": "hopper.xml", "halfcheetah": "half_cheetah.xml", "walker2d": "walker2d.xml"}
ROOT, HEIGHT_JOINT, FLOOR = "torso", "rootz", "floor"
ONE_BODY = {("halfcheetah", "torso"): ("torso", "head")}  # Geoms that are altered together.
DIGITS = 17  # Significant ones, of the numbers in files: as many as make a number again.

Vector = NDArray[np.float64]


def base_file(robot: str) -> Path:
    """Gymnasium's own XML file of a robot."""
    import gymnasium.envs.mujoco

    return Path(gymnasium.envs.mujoco.__path__[0]) / "assets" / FILES[robot]


def build(name: str | Variant) -> mujoco.MjSpec:
    """The specification of a variant, or of a base body.

    Args:
        name: Such as ``"hopper-massdec_25_leggeom"`` or ``"hopper"``.

    Returns:
        The specification; ``build(name).compile()`` is the model, and `to_xml` its text.

    Raises:
        ValueError: There is no such variant; the message says what is right.
    """
    if str(name) in ROBOTS:
        return _base(str(name))
    variant = name if isinstance(name, Variant) else Variant.parse(name)
    spec = _base(variant.robot)
    EDITS[variant.category](spec, variant)
    return spec


def write_xml(name: str | Variant, path: str | os.PathLike[str]) -> Path:
    """Writes a variant, or a base body, as an XML file of MuJoCo's.

    Raises:
        FileExistsError: The file is there already.
        ValueError: There is no such variant; the message says what is right.
    """
    target = Path(path)
    if target.exists():
        raise FileExistsError(f"{target} is there already; choose another file.")
    text = to_xml(build(name))
    with atomic_write(target, "w") as file:
        file.write(text)
    return target


def to_xml(spec: mujoco.MjSpec) -> str:
    """The text of a specification, with all digits; MuJoCo itself writes six."""
    model = spec.compile()
    tree = ElementTree.fromstring(spec.to_xml())
    for body in spec.bodies[1:]:
        exact = model.body(body.name)
        found = tree.find(f".//body[@name='{body.name}']")
        _set(found, pos=exact.pos, quat=exact.quat)
    for joint in spec.joints:
        exact = model.joint(joint.name)
        found = tree.find(f".//joint[@name='{joint.name}']")
        _set(found, pos=exact.pos, axis=exact.axis, ref=exact.qpos0)
        if exact.limited:
            _set(found, range=exact.range)
    for geom in spec.geoms:
        exact = model.geom(geom.name)
        found = tree.find(f".//geom[@name='{geom.name}']")
        _set(found, pos=exact.pos, quat=exact.quat, friction=exact.friction)
        if geom.type == mujoco.mjtGeom.mjGEOM_CAPSULE:
            _set(found, size=exact.size[:2], density=[geom.density])
    ElementTree.indent(tree)
    return f"{ElementTree.tostring(tree, encoding='unicode')}\n"


def _set(element: ElementTree.Element | None, **values: Any) -> None:
    assert element is not None
    for name, numbers in values.items():
        element.set(name, " ".join(f"{float(n):.{DIGITS}g}" for n in np.ravel(numbers)))


def _base(robot: str) -> mujoco.MjSpec:
    """A robot as Gymnasium has it; a prescribed total mass is the density that gives it."""
    spec = mujoco.MjSpec.from_file(str(base_file(robot)))
    total = spec.compiler.settotalmass
    if total > 0:
        spec.compiler.settotalmass = -1
        share = total / float(spec.compile().body_mass.sum())
        spec.default.geom.density *= share
        for geom in spec.geoms:
            geom.density *= share
    return spec


# Edits


def _alter_mass(spec: mujoco.MjSpec, variant: Variant) -> None:
    names = ONE_BODY.get((variant.robot, variant.part), (variant.mjcf_name,))
    for name in names:
        spec.geom(name).density *= variant.factor


def _alter_joint(spec: mujoco.MjSpec, variant: Variant) -> None:
    joint = spec.joint(variant.mjcf_name)
    joint.range = joint.range * variant.factor


def _alter_friction(spec: mujoco.MjSpec, variant: Variant) -> None:
    """Without priority, a contact has the larger friction of geom and floor.

    The geom then decides on all of the contact, whose other settings stay what they were: of both,
    the larger friction against spinning and rolling, and the larger number of dimensions.
    """
    geom, floor = spec.geom(variant.mjcf_name), spec.geom(FLOOR)
    others = np.maximum(geom.friction, floor.friction)[1:]
    geom.friction = np.array([geom.friction[0] * variant.factor, *others])
    geom.condim = max(geom.condim, floor.condim)
    geom.priority = 1


def _alter_length(spec: mujoco.MjSpec, variant: Variant) -> None:
    before = spec.compile()
    geom = spec.geom(variant.mjcf_name)
    body, exact = geom.parent, before.geom(geom.name)
    shift = _Stretch(exact, _anchor(body), variant.factor)
    geom.fromto = np.full(6, np.nan)
    geom.alt.type = mujoco.mjtOrientation.mjORIENTATION_QUAT
    geom.quat = exact.quat
    geom.pos = exact.pos + shift(exact.pos)
    geom.size = [exact.size[0], exact.size[1] * variant.factor, 0.0]
    for attached in body.geoms:
        if attached.name != geom.name:
            attached.pos = attached.pos + shift(attached.pos)
    for child in body.bodies:
        child.pos = child.pos + shift(child.pos + _anchor(child))
    _stand(spec, lowest_point(before))


class _Stretch:
    """How far a point that is attached to a capsule moves when the capsule is stretched."""

    def __init__(self, capsule: Any, joint: Vector, factor: float) -> None:
        rotation = np.empty(9)
        mujoco.mju_quat2Mat(rotation, capsule.quat)
        self._axis: Vector = rotation.reshape(3, 3)[:, 2]
        self._centre, self._half = capsule.pos.copy(), float(capsule.size[1])
        self._factor = factor
        self._held = self._along(joint)

    def __call__(self, point: Vector) -> Vector:
        """The move [3] of a point [3], in the body's frame."""
        return (self._factor - 1) * (self._along(point) - self._held) * self._axis

    def _along(self, point: Vector) -> float:
        place = float((np.asarray(point) - self._centre) @ self._axis)
        return min(max(place, -self._half), self._half)


def _anchor(body: Any) -> Vector:
    """Where a body's last joint is, in the body's frame; the root turns about its own."""
    return np.array(body.joints[-1].pos)


def lowest_point(model: mujoco.MjModel) -> float:
    """The height of the lowest point of all capsules, where nothing is bent, metres."""
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    capsules = np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_CAPSULE)
    radius, half = model.geom_size[capsules, 0], model.geom_size[capsules, 1]
    upright = np.abs(data.geom_xmat[capsules, 8])  # z of the capsules' axes.
    return float((data.geom_xpos[capsules, 2] - upright * half - radius).min())


def _stand(spec: mujoco.MjSpec, height: float) -> None:
    """Puts the root where the lowest point is at a height, and lets qpos[1] say the root's."""
    change = height - lowest_point(spec.compile())
    root, joint = spec.body(ROOT), spec.joint(HEIGHT_JOINT)
    root.pos = np.add(root.pos, (0.0, 0.0, change))
    joint.ref += change


EDITS = {
    "mass": _alter_mass,
    "joint": _alter_joint,
    "length": _alter_length,
    "friction": _alter_friction,
}
