"""``aime-gym models``: the models on this machine."""

from __future__ import annotations

from tyro.extras import SubcommandApp

from aime_gym.catalogue import MODELS_VARIABLE, list_models
from aime_gym.cli.console import show_table

app = SubcommandApp()
HEADER = ("name", "source", "body", "updates", "learned from", "description")
NONE = "-"


@app.command(name="list")
def list_() -> None:
    """List the models that --world-model and --policy take by name."""
    rows = [
        (
            name,
            card.source,
            card.body,
            NONE if card.updates is None else f"{card.updates:,}",
            "; ".join(map(str, card.learned_from)) or NONE,
            card.description,
        )
        for name, card in list_models().items()
    ]
    if not rows:
        print(f"There are none here. {MODELS_VARIABLE} adds folders.")
        return
    show_table(HEADER, rows)
