"""The ``aime-gym`` command: one file per command or group of commands.

A file is imported when its command is chosen, so it may import whatever it needs. It has a function
of the command's name, or, for a group, an `app`. A command returns None, or its exit code. Exit
codes are 0 for success, 1 for a check that found something, 2 for wrong input, 130 for an
interruption.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import tyro
from tyro.extras import SubcommandApp

from aime_gym.cli.errors import INTERRUPTED, WRONG_INPUT, describe, is_for_the_user

PROGRAM = "aime-gym"
COMMANDS = {
    "demo": "Imitate a walker from observations alone, and compare with cloning and with chance.",
    "environments": "List and check the environments.",
    "datasets": "List, show, download, push, make, mix, convert, verify and draw datasets.",
    "models": "List, download, push and export models.",
    "collect": "Record episodes of a policy as a dataset.",
    "train": "Train experts, world models and agents.",
    "evaluate": "Run whole episodes of a policy and score them against the expert.",
    "imujoco": "List, build and show altered bodies, and train policies for them.",
    "benchmark": "Run a grid of agents, tasks, setups, data and seeds.",
    "report": "Write the results of a grid as one HTML file.",
    "diagnose": "Find out whether the data, the world model or the policy hold imitation back.",
    "predict": "Show what a world model predicts of a trajectory.",
    "video": "Film a demonstration beside an episode of a policy.",
    "renew": "Rewrite a card of the old form in the present one.",
    "doctor": "Report versions, devices, OpenGL and folders, and how to repair what does not work.",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: The words after ``aime-gym``; None for those of the process.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words == ["--version"]:
        print(f"{PROGRAM} {version(PROGRAM)}")
        return 0
    try:
        code = _run(words[0], words[1:]) if words and words[0] in COMMANDS else _list(words)
    except KeyboardInterrupt as stop:
        if str(stop):  # What was saved.
            print(f"{PROGRAM}: {stop}", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if not is_for_the_user(error):
            raise
        describe(error)
        return WRONG_INPUT
    return code if isinstance(code, int) else 0


def _run(name: str, words: list[str]) -> object:
    """Runs one command, or one of a group."""
    module = importlib.import_module(f"{__name__}.{name}")
    program = f"{PROGRAM} {name}"
    if hasattr(module, "app"):
        return module.app.cli(prog=program, description=COMMANDS[name], args=words)
    command: Any = getattr(module, name)
    return tyro.cli(command, prog=program, args=words)


def _list(words: list[str]) -> object:
    """Shows the commands, or what is wrong with words that choose none."""
    app = SubcommandApp()
    for name, summary in COMMANDS.items():
        app.command(name=name, help=summary)(lambda: None)
    about = "Learning to act by watching. --version says which version this is."
    return app.cli(prog=PROGRAM, description=about, args=words)
