"""Agents that learn by watching, with Stable-Baselines3's interface."""

from agents.aime import AIMEAgent, AIMEConfig
from agents.bc import BCAgent, BCConfig
from agents.expert import Expert, ExpertConfig, train_expert
from agents.vec_env import GymnasiumVecEnv
from agents.world_models.catalogue import list_models
from agents.world_models.config import WorldModelConfig
from agents.world_models.learner import TrainingConfig, WorldModel, load_pretrained_model

__all__ = [
    "AIMEAgent",
    "AIMEConfig",
    "BCAgent",
    "BCConfig",
    "Expert",
    "ExpertConfig",
    "GymnasiumVecEnv",
    "TrainingConfig",
    "WorldModel",
    "WorldModelConfig",
    "list_models",
    "load_pretrained_model",
    "train_expert",
]
