"""OpenGL contexts without a window: which backend draws on this machine."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

BACKENDS = ("egl", "osmesa", "glfw")
HOW_TO_FIX = (
    "On Debian or Ubuntu without a display: apt-get install libegl1 libopengl0 "
    "libgl1-mesa-dri. MUJOCO_GL=egl, osmesa or glfw chooses a backend; `aime-gym doctor` reports "
    "what works."
)


class RenderingUnavailable(RuntimeError):  # noqa: N818
    """There is no working OpenGL; the message says what to install."""


def chosen_backends() -> tuple[str, ...]:
    """The backends to try: MUJOCO_GL where it is set, else what fits the machine.

    OSMesa has to be asked for: PyOpenGL keeps to one platform per process, EGL once that was tried.

    Raises:
        RenderingUnavailable: MUJOCO_GL switches rendering off, or names an unknown backend.
    """
    setting = os.environ.get("MUJOCO_GL", "").lower().strip()
    if setting in BACKENDS:
        return (setting,)
    if setting:
        raise RenderingUnavailable(
            f"No pictures: MUJOCO_GL is {setting!r}. Unset it, or set one of {', '.join(BACKENDS)}."
        )
    on_screen = "DISPLAY" in os.environ or not sys.platform.startswith("linux")
    return ("glfw", "egl") if on_screen else ("egl",)


def make_gl_context(width: int, height: int) -> tuple[Any, str]:
    """An OpenGL context of the first backend that works, made current, and the backend's name.

    Raises:
        RenderingUnavailable: None works.
    """
    failures = []
    for backend in chosen_backends():
        try:
            context = importlib.import_module(f"mujoco.{backend}").GLContext(width, height)
            context.make_current()
            return context, backend
        except Exception as error:  # Every backend fails in its own way, even with AttributeError.
            failures.append(f"{backend}: {error or type(error).__name__}")
    raise RenderingUnavailable(f"No OpenGL works here ({'; '.join(failures)}). {HOW_TO_FIX}")
