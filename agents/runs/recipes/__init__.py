"""The recipes: world models, models of a body, imitators and experts, each in a run folder."""

from __future__ import annotations

from typing import Any

from agents.runs.recipe import Recipe
from agents.runs.recipes.agent import AgentRecipe
from agents.runs.recipes.amigo import AMIGoRecipe
from agents.runs.recipes.imitators import (
    AIMERecipe,
    BCORecipe,
    BCRecipe,
    EmbodiedRecipe,
    IIDMRecipe,
    ImitationRecipe,
    ReptileRecipe,
)
from agents.runs.recipes.models import (
    BodyModelRecipe,
    ForwardModelRecipe,
    InverseModelRecipe,
    WorldModelRecipe,
)
from agents.runs.recipes.online import (
    DreamerRecipe,
    DreamingRecipe,
    ExpertRecipe,
    OnlineRecipe,
    Plan2ExploreRecipe,
)

__all__ = [
    "RECIPES",
    "AIMERecipe",
    "AMIGoRecipe",
    "AgentRecipe",
    "BCORecipe",
    "BCRecipe",
    "BodyModelRecipe",
    "DreamerRecipe",
    "DreamingRecipe",
    "EmbodiedRecipe",
    "ExpertRecipe",
    "ForwardModelRecipe",
    "IIDMRecipe",
    "ImitationRecipe",
    "InverseModelRecipe",
    "OnlineRecipe",
    "Plan2ExploreRecipe",
    "ReptileRecipe",
    "WorldModelRecipe",
]

RECIPES: tuple[type[Recipe[Any]], ...] = (
    WorldModelRecipe,
    AIMERecipe,
    BCRecipe,
    ReptileRecipe,
    BCORecipe,
    IIDMRecipe,
    InverseModelRecipe,
    ForwardModelRecipe,
    DreamerRecipe,
    Plan2ExploreRecipe,
    ExpertRecipe,
    AMIGoRecipe,
)
"""Every recipe; the command line has a command for each."""
