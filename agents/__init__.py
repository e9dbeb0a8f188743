"""Agents that learn by watching, with Stable-Baselines3's interface."""

from agents.aime import AIMEAgent, AIMEConfig
from agents.amigo import AMIGoAgent, AMIGoConfig
from agents.bc import BCAgent, BCConfig
from agents.bco import BCOAgent, BCOConfig
from agents.body_models import BodyModelConfig, ForwardModel, InverseModel
from agents.diagnosis import Diagnosis, diagnose, plot_diagnosis
from agents.dreamer import DreamerAgent, DreamerConfig
from agents.iidm import IIDMAgent, IIDMConfig
from agents.plan2explore import Plan2ExploreAgent, Plan2ExploreConfig
from agents.reptile import ReptileAgent, ReptileConfig
from agents.sac import SACAgent, SACConfig
from agents.together import learn_together
from agents.vec_env import GymnasiumVecEnv
from agents.world_models.config import TrainingConfig, WorldModelConfig
from agents.world_models.world_model import WorldModel, load_pretrained_model
from aime_gym.catalogue import list_models
from aime_gym.download import download_model, push_model

__all__ = [
    "AIMEAgent",
    "AIMEConfig",
    "AMIGoAgent",
    "AMIGoConfig",
    "BCAgent",
    "BCConfig",
    "BCOAgent",
    "BCOConfig",
    "BodyModelConfig",
    "Diagnosis",
    "DreamerAgent",
    "DreamerConfig",
    "ForwardModel",
    "GymnasiumVecEnv",
    "IIDMAgent",
    "IIDMConfig",
    "InverseModel",
    "Plan2ExploreAgent",
    "Plan2ExploreConfig",
    "ReptileAgent",
    "ReptileConfig",
    "SACAgent",
    "SACConfig",
    "TrainingConfig",
    "WorldModel",
    "WorldModelConfig",
    "diagnose",
    "download_model",
    "learn_together",
    "list_models",
    "load_pretrained_model",
    "plot_diagnosis",
    "push_model",
]
