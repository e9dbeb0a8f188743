"""What several commands share: text, tables, and commands as text."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

MANY = 10_000  # Columns.

say = partial(print, flush=True)
"""Prints a line at once, also into a pipe."""


def shell_command(name: str, options: Mapping[str, Any], words: Sequence[str] = ()) -> str:
    """The shell command that calls a command with these options, for cards.

    Args:
        name: Such as ``"datasets mix"``.
        options: Option -> value; None, False and empty text are left out.
        words: Arguments without a name.
    """
    parts = ["aime-gym", *name.split()]
    for option, value in options.items():
        if value is None or value is False or value == "":
            continue
        parts.append(f"--{option.replace('_', '-')}")
        if value is not True:
            parts += map(str, value if isinstance(value, tuple) else (value,))
    return shlex.join([*parts, *words])


def is_watched() -> bool:
    """Whether progress bars would be seen, and not fill a log."""
    return sys.stderr.isatty()


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table, without a header where that is empty."""
    table = Table(*header, box=None, pad_edge=False, show_header=any(header))
    for row in rows:
        table.add_row(*map(Text, row))
    print_table(table)


def print_table(table: Table) -> None:
    """Prints a table as wide as the terminal; in a pipe, as wide as it needs."""
    console = Console()
    if not console.is_terminal:
        console.width = MANY
        console.width = console.measure(table).maximum
    console.print(table)
