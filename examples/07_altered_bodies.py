"""iMuJoCo: sample trajectories, load an altered body, load a policy and evaluate it.

With the published files, `aime-gym imujoco download dataset` and `policies` come first; without
them this makes a file of random actions, and a policy that has learned nothing: about a minute.

    python examples/07_altered_bodies.py --data sac-hopper-massdec_25_leggeom.npz
"""

import argparse
from pathlib import Path

import gymnasium as gym
import torch
from stable_baselines3 import SAC

import aime_gym
from agents.imujoco import load_published_sac
from aime_gym.imujoco import Sampler, write_imujoco_npz

parser = argparse.ArgumentParser()
parser.add_argument("--variant", default="hopper-massdec_25_leggeom")
parser.add_argument("--data", type=Path)
parser.add_argument("--policy", type=Path)
parser.add_argument("--episodes", type=int, default=10)
options = parser.parse_args()
ENV_ID = f"iMuJoCo/{options.variant}"

if options.data is None:
    options.data = Path(f"sac-{options.variant}.npz")
    episodes = aime_gym.collect("random", ENV_ID, 300, seed=0, name="random")
    write_imujoco_npz(episodes, options.data)
if options.policy is None:
    options.policy = Path(f"sac-{options.variant}.zip")
    SAC("MlpPolicy", ENV_ID, buffer_size=1).save(options.policy)

# Whole trajectories: those of one portion are never in the other.
train = Sampler(ENV_ID, [options.data], portion=(0.0, 0.5), generator=0, convert=torch.from_numpy)
test = Sampler(ENV_ID, [options.data], portion=(0.5, 1.0), generator=0, convert=torch.from_numpy)
states, actions = train.sample(tot_shots=2)
print("to train:", tuple(states.shape), tuple(actions.shape), "to test:", len(test.sample(1)[0]))

# The altered body is an environment as any other.
env = gym.make(ENV_ID, render_mode=None)
observation, info = env.reset(seed=0)
print("masses, kg:", env.unwrapped.model.body_mass[1:].round(2))

# A published policy acts without gym, and none of its pickles is executed.
policy = load_published_sac(options.policy, env)
print("first action:", policy.predict(observation, deterministic=True)[0].round(2))
print(aime_gym.evaluate(policy, ENV_ID, episodes=options.episodes))
