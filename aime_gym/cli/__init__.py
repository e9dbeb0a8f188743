"""The ``aime-gym`` command: one file a command group."""

from __future__ import annotations

from tyro.extras import SubcommandApp

from aime_gym.cli import train

app = SubcommandApp()
app.command(train.app, name="train", help="Train experts, world models and agents.")


def main() -> None:
    """Runs the command line."""
    app.cli(prog="aime-gym", description="Learning to act by watching.")
