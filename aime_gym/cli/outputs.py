"""Where a command writes: kept for it, and tried for writing, before its work begins."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from aime_gym.places import kept, reserved, reserved_folder

P = ParamSpec("P")
R = TypeVar("R")
KEEPING: dict[str, Callable[[Path], AbstractContextManager[None]]] = {
    "file": reserved,
    "new_folder": reserved_folder,
    "folder": kept,
}


def writes(**options: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Keeps the places that options of a command name; an option of None names none.

    Args:
        **options: The option -> what it names: a ``"file"``, a ``"new_folder"``, or a ``"folder"``
            that may be there already.
    """

    def decorate(command: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(command)

        @wraps(command)
        def keeping(*arguments: P.args, **named: P.kwargs) -> R:
            given: dict[str, Any] = signature.bind(*arguments, **named).arguments
            with ExitStack() as stack:
                for option, kind in options.items():
                    if given.get(option) is not None:
                        stack.enter_context(KEEPING[kind](given[option]))
                return command(*arguments, **named)

        return keeping

    return decorate
