"""The environments of iMuJoCo: Gymnasium's v5 robots with other bodies.

    gym.make("iMuJoCo/hopper-massdec_25_leggeom")               a variant of the catalogue
    gym.make("iMuJoCo/hopper", variant="hopper-massdec_30_leggeom")   any other
    gym.make("iMuJoCo/hopper", xml_file="mine.xml")             a published or hand-made file

Observations, actions, rewards and ends are Gymnasium's: hopper, halfcheetah and walker2d observe
11, 17 and 17 values and have 3, 6 and 6 motors; an episode has at most 1,000 steps. The limits
within which a body counts as healthy are those of the base body, whatever its own size.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any, ClassVar, cast

import mujoco
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv
from gymnasium.envs.mujoco.walker2d_v5 import Walker2dEnv
from gymnasium.utils import EzPickle

from aime_gym.envs.imujoco.builder import base_file, build
from aime_gym.imujoco_ids import ROBOTS, Variant
from aime_gym.opengl import note_drawing


class VariantBody:
    """What makes one of Gymnasium's MuJoCo environments one of another body.

    Args:
        variant: Such as ``"hopper-massdec_25_leggeom"``; None for the base body.
        xml_file: A file of the body instead; it has the joints and motors of the base body.
        **options: Further ones of Gymnasium's class, such as ``render_mode``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: There is no such variant, it is of another robot, or the file is damaged, of
            another robot, or of a form that MuJoCo no longer reads; the message says what to do.
    """

    robot: ClassVar[str]
    width: int
    height: int
    data: mujoco.MjData
    mujoco_renderer: Any

    def __init__(
        self,
        variant: str | None = None,
        xml_file: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        self._body = self._compile(variant, xml_file)
        gymnasiums: Any = super()
        gymnasiums.__init__(xml_file=str(base_file(self.robot)), **options)
        given = None if xml_file is None else os.fspath(xml_file)
        EzPickle.__init__(cast(Any, self), variant, given, **options)
        self.variant = variant

    def render(self) -> Any:
        """A picture, where `render_mode` is ``"rgb_array"``; see Gymnasium's class.

        Raises:
            RenderingUnavailable: The process was forked from one that had drawn before.
        """
        note_drawing()
        gymnasiums: Any = super()
        return gymnasiums.render()

    # Copies, by `copy.deepcopy` and `pickle`: Gymnasium's environments begin anew, these go on.

    def __getstate__(self) -> dict[str, Any]:
        made_anew = ("_body", "model", "mujoco_renderer")
        return {name: value for name, value in vars(self).items() if name not in made_anew}

    def __setstate__(self, state: dict[str, Any]) -> None:
        EzPickle.__setstate__(cast(Any, self), state)
        vars(self).update(state)
        self.model = self._body = self.data.model
        self.mujoco_renderer.model, self.mujoco_renderer.data = self.model, self.data

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """The body's model, where Gymnasium's own class loads the base body's."""
        model = self._body
        screen = model.vis.global_
        screen.offwidth = max(screen.offwidth, self.width)
        screen.offheight = max(screen.offheight, self.height)
        return model, mujoco.MjData(model)

    def _compile(
        self, variant: str | None, xml_file: str | os.PathLike[str] | None
    ) -> mujoco.MjModel:
        if variant is not None and xml_file is not None:
            raise ValueError("Give a variant or an xml_file, not both.")
        if xml_file is not None:
            return load_model(xml_file, self.robot)
        if variant is None:
            return build(self.robot).compile()
        parsed = Variant.parse(variant)
        if parsed.robot != self.robot:
            raise ValueError(
                f"{variant} is a variant of {parsed.robot}, and this is iMuJoCo/{self.robot}."
            )
        return build(parsed).compile()


class HopperVariantEnv(VariantBody, HopperEnv):
    """A hopper; see `VariantBody`."""

    robot = "hopper"


class HalfCheetahVariantEnv(VariantBody, HalfCheetahEnv):
    """A half cheetah; see `VariantBody`."""

    robot = "halfcheetah"


class Walker2dVariantEnv(VariantBody, Walker2dEnv):
    """A walker; see `VariantBody`."""

    robot = "walker2d"


def load_model(xml_file: str | os.PathLike[str], robot: str) -> mujoco.MjModel:
    """The model of a published or hand-made file of a robot.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, of another robot, or in global coordinates.
    """
    path = Path(xml_file).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"There is no XML file {path}.")
    _check_coordinates(path)
    try:
        model = mujoco.MjModel.from_xml_path(str(path))
    except ValueError as error:
        raise ValueError(f"MuJoCo cannot read {path}: {error}") from error
    expected = (ROBOTS[robot].observation_size + 1, ROBOTS[robot].action_size)
    if (found := (model.nq + model.nv, model.nu)) != expected:
        raise ValueError(
            f"{path} is no {robot}: a {robot} has {expected[0]} positions and velocities and "
            f"{expected[1]} motors; the file has {found[0]} and {found[1]}."
        )
    return model


def _check_coordinates(path: Path) -> None:
    """Refuses what MuJoCo reads no longer: the files of gym up to 0.21 of hopper and walker2d."""
    try:
        compiler = ElementTree.parse(path).getroot().find("compiler")
    except ElementTree.ParseError as error:
        raise ValueError(f"{path} is no XML file: {error}.") from error
    if compiler is not None and compiler.get("coordinate") == "global":
        raise ValueError(
            f"{path} is in global coordinates, which MuJoCo reads no longer since 2.3.4. To "
            "convert it, load it with MuJoCo 2.3.3 (mujoco.MjModel.from_xml_path) and save it with "
            "mujoco.mj_saveLastXML, which writes local coordinates; or write the variant anew: "
            f"aime-gym imujoco build {path.stem}."
        )
