"""Stable-Baselines3's PPO on the grid worlds of AMIGo, and AMIGo's own baseline beside it.

python examples/06_ppo_in_a_grid_world.py --steps 500000    # about 3 minutes on two cores
"""

import argparse

import gymnasium as gym
from stable_baselines3 import PPO

import aime_gym
from agents import AMIGoAgent, GymnasiumVecEnv

parser = argparse.ArgumentParser()
parser.add_argument("--env", default="MiniGrid-Empty-8x8-v0")
parser.add_argument("--steps", type=int, default=100_000)
parser.add_argument("--episodes", type=int, default=100)
options = parser.parse_args()

envs = gym.make_vec(f"FullGrid/{options.env}", num_envs=32)
ppo = PPO("MlpPolicy", GymnasiumVecEnv(envs), n_steps=64, batch_size=256, seed=0, device="cpu")
ppo.learn(options.steps)

impala = AMIGoAgent(options.env, variant="none", seed=0).learn(options.steps)

for name, agent in (("PPO", ppo), ("IMPALA", impala)):
    result = aime_gym.evaluate(agent, options.env, options.episodes, deterministic=False)
    print(f"{name}: mean return {result.mean:.3f} after {options.steps:,} frames")
