"""Pictures of a physics, drawn off screen.

The same scene, camera and OpenGL settings as dm_control's `physics.render`, with two differences:
the backend is chosen when the first picture is asked for, and the off-screen buffer is as large as
the picture, so small pictures are quick and large ones need no change of the model.

On a processor, most of the time goes into the shadows' map and into drawing every pixel four times,
which smooths edges. `DRAWINGS["fast"]` makes do with less.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from aime_gym.opengl import check_process, make_gl_context, never_destroy

DRAWINGS: dict[str, dict[str, int]] = {
    "exact": {},
    "fast": {"shadowsize": 512, "offsamples": 0},
}
"""How pictures are drawn -> qualities that differ from the suite's."""

_OPEN: WeakSet[Renderer] = WeakSet()


def _abandon_all() -> None:
    """Gives up all graphics memory in a process that was just forked: it is the parent's."""
    for renderer in list(_OPEN):
        renderer.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)


class Renderer:
    """Draws one physics at one size.

    Args:
        physics: The physics.
        width: Width of the pictures, in pixels.
        height: Height of the pictures, in pixels.
        drawing: One of `DRAWINGS`.

    Attributes:
        backend: The OpenGL backend in use.
        vendor: What draws: the OpenGL vendor and renderer strings.
        terrain_changed: Set it when height fields change: the next picture uploads them.
    """

    def __init__(self, physics: Any, width: int, height: int, drawing: str = "exact") -> None:
        import mujoco

        self.terrain_changed = False
        self._mujoco = mujoco
        self._physics = physics
        model = physics.model.ptr
        self._gl, self.backend = make_gl_context(width, height)
        self._context = self._make_context(model, width, height, DRAWINGS[drawing])
        self._scene = mujoco.MjvScene(model, maxgeom=1_000 + 10 * model.ngeom)
        self._option = mujoco.MjvOption()
        self._option.flags[mujoco.mjtVisFlag.mjVIS_RANGEFINDER] = False
        self._perturb = mujoco.MjvPerturb()
        self._viewport = mujoco.MjrRect(0, 0, width, height)
        self._pixels = np.empty((height, width, 3), dtype=np.uint8)
        _OPEN.add(self)

    def _make_context(
        self, model: Any, width: int, height: int, qualities: Mapping[str, int]
    ) -> Any:
        mujoco = self._mujoco
        with (
            changed(model.vis.global_, offwidth=width, offheight=height),
            changed(model.vis.quality, **qualities),
        ):
            context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_150)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, context)
        return context

    @property
    def vendor(self) -> str:
        """OpenGL's own name for what draws."""
        from OpenGL import GL

        check_process()
        self._gl.make_current()
        names = (GL.glGetString(GL.GL_VENDOR), GL.glGetString(GL.GL_RENDERER))
        return " ".join(name.decode() for name in names if name)

    def render(self, camera: int) -> NDArray[np.uint8]:
        """The physics as it is now, seen by a fixed camera (-1: the free one) [H, W, 3].

        Raises:
            RenderingUnavailable: The process was forked from the one that made this renderer.
        """
        check_process()
        mujoco, physics = self._mujoco, self._physics
        model, data = physics.model.ptr, physics.data.ptr
        view = mujoco.MjvCamera()
        view.fixedcamid = camera
        if camera < 0:
            mujoco.mjv_defaultFreeCamera(model, view)
        else:
            view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._gl.make_current()
        if self.terrain_changed:
            self._upload_terrain()
        mujoco.mjv_updateScene(
            model, data, self._option, self._perturb, view, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        mujoco.mjr_render(self._viewport, self._scene, self._context)
        mujoco.mjr_readPixels(self._pixels, None, self._viewport, self._context)
        return np.flipud(self._pixels).copy()

    def _upload_terrain(self) -> None:
        for field in range(self._physics.model.nhfield):
            self._mujoco.mjr_uploadHField(self._physics.model.ptr, self._context, field)
        self.terrain_changed = False

    def close(self) -> None:
        """Frees the graphics memory; safe to call twice."""
        if self._gl is not None:
            self._gl.make_current()
            self._context.free()
            self._gl.free()
            self._gl = None

    def abandon(self) -> None:
        """Lets go of the graphics memory without touching it."""
        never_destroy(self._gl, self._context)
        self._gl = None


@contextmanager
def changed(settings: Any, **values: int) -> Iterator[None]:
    """Attributes have these values inside the block, and their own after it."""
    before = {name: getattr(settings, name) for name in values}
    try:
        for name, value in values.items():
            setattr(settings, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(settings, name, value)
