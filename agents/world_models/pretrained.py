"""World models that have learnt before: taken over by an agent, as they are or to learn on.

What belongs to a task or to an explorer, the reward decoder and the ensemble, may be missing in
them, and is then new.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from torch import nn

from agents.parts import load_weights
from agents.spaces import REWARD, EnvInfo
from agents.world_models.config import WorldModelConfig
from agents.world_models.network import WorldModelNet
from agents.world_models.world_model import WorldModel

TASK_HEADS = (f"decoders.{REWARD}.", "emb_prediction_heads.")
Pretrained = WorldModel | WorldModelNet | WorldModelConfig | str | os.PathLike[str]
"""A world model, or the name or path of one. (A configuration makes an untrained one, for weights
that are still to be loaded.)"""


def copy_pretrained(
    world_model: object,
    info: EnvInfo,
    adapted: Callable[[WorldModelConfig], WorldModelConfig],
    argument: str,
) -> WorldModelNet:
    """A copy of a world model, for an environment.

    Args:
        world_model: What is taken over, see `Pretrained`.
        info: The environment, of the model's body and setup.
        adapted: Its configuration -> the copy's, which may have other `TASK_HEADS`.
        argument: What the model is called, for errors.

    Raises:
        TypeError: It is no world model.
        ValueError: World model and environment do not fit.
        FileNotFoundError: There is no model of this name; the message lists what there is.
    """
    if isinstance(world_model, WorldModelConfig):
        return WorldModelNet(info, adapted(world_model))
    if isinstance(world_model, str | os.PathLike):
        world_model = WorldModel.load(world_model)
    if isinstance(world_model, WorldModel):
        world_model = world_model.net
    if not isinstance(world_model, WorldModelNet):
        raise TypeError(
            f"{argument} is a WorldModel or the name of one, not {type(world_model).__name__}."
        )
    info = world_model.info.adapted_to(info, "The world model")
    model = WorldModelNet(info, adapted(world_model.config))
    new_heads = {n: w for n, w in model.state_dict().items() if n.startswith(TASK_HEADS)}
    weights = {**new_heads, **world_model.state_dict()}
    load_weights(model, weights, "the world model", TASK_HEADS)
    return model


def learning_parameters(model: WorldModelNet, frozen: bool) -> Iterator[nn.Parameter]:
    """The parameters that learn: of a frozen model, those of its reward decoder and ensemble."""
    for name, parameter in model.named_parameters():
        if not frozen or name.startswith(TASK_HEADS):
            yield parameter
