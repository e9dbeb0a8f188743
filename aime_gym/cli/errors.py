"""What the command line does with errors: one clear line for the user's, a traceback for ours."""

from __future__ import annotations

import os
import sys
import traceback

from gymnasium.error import UnregisteredEnv

from aime_gym.foreign import printable
from aime_gym.opengl import RenderingUnavailable

WRONG_INPUT, INTERRUPTED = 2, 130
DEBUG_VARIABLE = "AIME_GYM_DEBUG"
ALWAYS = (OSError, RenderingUnavailable, UnregisteredEnv)
IF_RAISED_HERE = (ValueError, ModuleNotFoundError)
PACKAGES = ("aime_gym", "agents")


def is_for_the_user(error: Exception) -> bool:
    """Whether the message alone tells what to do.

    It does for files and rendering, and for what this package itself found wrong with its input.
    A ValueError out of another package is a fault in the code, whose traceback is worth reading; so
    is a TypeError that no statement of this package raises.
    """
    if os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0"):
        return False
    if isinstance(error, TypeError):
        return _raised_here(error) and _is_deliberate(error)
    return isinstance(error, ALWAYS) or (isinstance(error, IF_RAISED_HERE) and _raised_here(error))


def describe(error: Exception) -> None:
    """Prints the message as one line."""
    message = printable(" ".join(str(error).split()))
    print(f"aime-gym: error: {message or type(error).__name__}", file=sys.stderr)


def _raised_here(error: Exception) -> bool:
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    module = "" if place is None else str(place.tb_frame.f_globals.get("__name__"))
    return module.split(".")[0] in PACKAGES


def _is_deliberate(error: Exception) -> bool:
    """Whether the line where the error arose is a ``raise``."""
    line = traceback.extract_tb(error.__traceback__)[-1].line
    return line is not None and line.startswith("raise ")
