"""Suggestions for names that do not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(wrong: str, existing: Iterable[str]) -> str:
    """``"did you mean 'x'? "`` with the closest of the existing names, or nothing."""
    close = difflib.get_close_matches(wrong, list(existing), n=1)
    return f"did you mean {close[0]!r}? " if close else ""
