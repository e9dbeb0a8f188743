"""``aime-gym models``: the world models on this machine."""

from __future__ import annotations

from tyro.extras import SubcommandApp

from aime_gym.cli.words import show_table

app = SubcommandApp()
SHORT = 8  # Characters of a checksum, where people read it.


@app.command(name="list")
def list_() -> None:
    """List the world models that --world-model takes by name."""
    from agents.world_models.catalogue import (
        MODELS_VARIABLE,
        find_model,
        list_models,
        model_origin,
    )

    rows = []
    for name in list_models():
        try:
            _, source, checksum = model_origin(name)
            rows.append((name, source, checksum[:SHORT], str(find_model(name))))
        except ValueError as error:
            rows.append((name, "unknown", "", str(error)))
    if not rows:
        print(f"There are none here. {MODELS_VARIABLE} adds folders.")
        return
    show_table(("name", "source", "sha256", "place"), rows)
