"""Small things that several commands need."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def shell_command(name: str, options: Mapping[str, Any], words: Sequence[str] = ()) -> str:
    """The shell command that calls a command with these options, for cards.

    Args:
        name: Such as ``"datasets mix"``.
        options: Parameter -> value; None, False and empty text are left out.
        words: Arguments without a name.
    """
    parts = ["aime-gym", *name.split()]
    for option, value in options.items():
        if value is None or value is False or value == "":
            continue
        parts.append(f"--{option.replace('_', '-')}")
        parts += [] if value is True else [str(value)]
    return shlex.join([*parts, *words])


def check_new_folder(folder: Path) -> None:
    """Refuses a place that is taken, before the work is done that is to go there.

    Raises:
        FileExistsError: It is.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is not empty; choose a new folder.")


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table; in a pipe its lines are never broken."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*header, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console = Console()
    console.print(table, width=None if console.is_terminal else 1_000, soft_wrap=False)
