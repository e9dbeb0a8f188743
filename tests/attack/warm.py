"""Loads the simulator, once for all processes that are forked from the one that imports this."""

import gymnasium as gym

import aime_gym  # noqa: F401

gym.make("AIME/cartpole-balance-mdp").close()
