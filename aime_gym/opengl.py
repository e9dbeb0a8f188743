"""OpenGL contexts without a window: which backend draws on this machine."""

from __future__ import annotations

import ctypes
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


_drawing_process: int | None = None  # The one in which the first context was made.


class RenderingUnavailable(RuntimeError):  # noqa: N818
    """There is no working OpenGL; the message says what to install."""


def check_process() -> None:
    """Checks that OpenGL may be used here: not where a process was forked from one that has drawn.

    What draws is a library with threads of its own, which a fork does not copy: the first picture
    would wait for them forever.

    Raises:
        RenderingUnavailable: This process is such a fork.
    """
    if _drawing_process not in (None, os.getpid()):
        raise RenderingUnavailable(
            f"No pictures in this process: it was forked from process {_drawing_process}, which "
            "had drawn before, and OpenGL does not survive a fork. Start processes by spawn, as "
            "with multiprocessing.get_context('spawn'), AsyncVectorEnv(..., context='spawn') or "
            "SubprocVecEnv(..., start_method='spawn'), or draw only after they have started."
        )


def note_drawing() -> None:
    """Notes that this process draws, so that processes forked from it do not try to."""
    global _drawing_process
    check_process()
    _drawing_process = os.getpid()


def never_destroy(*objects: object) -> None:
    """Keeps objects until the process is gone, even through the interpreter's end.

    For contexts in a forked process: destroying them waits for threads that are not there.
    """
    for kept in objects:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))


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
        RenderingUnavailable: None works, or this process was forked from one that has drawn.
    """
    check_process()
    failures = []
    for backend in chosen_backends():
        try:
            context = importlib.import_module(f"mujoco.{backend}").GLContext(width, height)
            context.make_current()
        except Exception as error:  # Every backend fails in its own way, even with AttributeError.
            failures.append(f"{backend}: {error or type(error).__name__}")
        else:
            note_drawing()
            return context, backend
    raise RenderingUnavailable(f"No OpenGL works here ({'; '.join(failures)}). {HOW_TO_FIX}")
