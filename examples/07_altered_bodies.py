"""iMuJoCo: sample trajectories, load an altered body, load a policy and evaluate it.

With the published files, `aime-gym imujoco download dataset` and `policies` come first, and --data
and --policy name them; else a bundled policy acts, and makes the trajectories: about half a minute.

    python examples/07_altered_bodies.py --variant halfcheetah-massinc_100_torso
"""

import argparse
from pathlib import Path

import gymnasium as gym
import torch

import aime_gym
from agents.imujoco import (
    PolicyQueue,
    load_bundled_policy,
    load_published_sac,
    select_bodies,
    unpack_policies,
)
from aime_gym.imujoco import Sampler

parser = argparse.ArgumentParser()
parser.add_argument("--variant", default="halfcheetah-massinc_100_torso")
parser.add_argument("--data", type=Path)
parser.add_argument("--policy", type=Path)
parser.add_argument("--episodes", type=int, default=10)
options = parser.parse_args()
ENV_ID = f"iMuJoCo/{options.variant}"

if options.data is None:
    queue = PolicyQueue(folder=Path("imujoco"), trajectories=4)
    unpack_policies(select_bodies([options.variant]), queue)
    options.data = queue.folder / "dataset" / f"sac-{options.variant}.npz"

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
if options.policy is None:
    policy = load_bundled_policy(options.variant)
else:
    policy = load_published_sac(options.policy, env)
print("first action:", policy.predict(observation, deterministic=True)[0].round(2))
print(aime_gym.evaluate(policy, ENV_ID, episodes=options.episodes))
