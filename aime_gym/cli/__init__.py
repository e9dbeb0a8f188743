"""The ``aime-gym`` command: one file a command group.

A command returns None, or its exit code. Exit codes are 0 for success, 1 for a check that found
something, 2 for wrong input, 130 for an interruption.
"""

from __future__ import annotations

from collections.abc import Sequence

from tyro.extras import SubcommandApp

from aime_gym.cli import collect, train
from aime_gym.cli.errors import INTERRUPTED, WRONG_INPUT, describe, is_for_the_user

app = SubcommandApp()
app.command(collect.collect)
app.command(train.app, name="train", help="Train experts, world models and agents.")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: The words after ``aime-gym``; None for those of the process.

    Returns:
        The exit code.
    """
    try:
        code = app.cli(prog="aime-gym", description="Learning to act by watching.", args=argv)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if not is_for_the_user(error):
            raise
        describe(error)
        return WRONG_INPUT
    return code if isinstance(code, int) else 0
