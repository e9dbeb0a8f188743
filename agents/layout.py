"""What a world model sees of a body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

REWARD = "reward"  # The key under which a reward is decoded, like a sensor of one value.


@dataclass(frozen=True)
class SensorLayout:
    """What a world model sees, and what its body can do.

    Attributes:
        body: The body's name.
        setup: ``"mdp"``, ``"lpomdp"`` or ``"visual"``.
        visible: Vector sensors that are encoded and decoded, in the model's order -> sizes.
        hidden: Vector sensors that probes read -> sizes.
        action_dim: Size of an action.
    """

    body: str
    setup: str
    visible: Mapping[str, int]
    hidden: Mapping[str, int]
    action_dim: int

    @property
    def image(self) -> bool:
        """Whether it sees images."""
        return self.setup == "visual"
