"""The ``aime-gym`` command: one file a command group.

A command returns None, or its exit code. Exit codes are 0 for success, 1 for a check that found
something, 2 for wrong input, 130 for an interruption.
"""

from __future__ import annotations

from collections.abc import Sequence

from tyro.extras import SubcommandApp

from aime_gym.cli import (
    collect,
    datasets,
    demo,
    doctor,
    environments,
    evaluate,
    models,
    train,
    video,
)
from aime_gym.cli.errors import INTERRUPTED, WRONG_INPUT, describe, is_for_the_user

app = SubcommandApp()
app.command(demo.demo)
app.command(environments.app, name="environments", help="List and check the environments.")
app.command(datasets.app, name="datasets", help="List, show, mix, convert and draw datasets.")
app.command(models.app, name="models", help="List the world models.")
app.command(collect.collect)
app.command(train.app, name="train", help="Train experts, world models and agents.")
app.command(evaluate.evaluate)
app.command(video.video)
app.command(doctor.doctor)


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
