"""``aime-gym renew``: cards of the old form in the present one."""

from __future__ import annotations

from pathlib import Path

import tyro

from aime_gym.card import CARD, renew_card


def renew(folder: tyro.conf.Positional[Path]) -> None:
    """Rewrite a card of the old form in the present one; what it says stays.

    Args:
        folder: The folder of a dataset or of a model.
    """
    card = renew_card(folder)
    print(f"{folder / CARD} is the card of the {card.kind} {card.name}, in the present form.")
