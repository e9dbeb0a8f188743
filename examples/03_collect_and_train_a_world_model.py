"""Phase 1: collect a body's own experience and learn a world model from it.

python examples/03_collect_and_train_a_world_model.py    # about a minute on two cores

With --episodes 100 --updates 20000 it is a good model, after about 40 minutes.
"""

import argparse
from pathlib import Path

import aime_gym
from agents import TrainingConfig, WorldModel, WorldModelConfig

parser = argparse.ArgumentParser()
parser.add_argument("--env", default="AIME/pendulum-swingup-mdp")
parser.add_argument("--episodes", type=int, default=10)
parser.add_argument("--updates", type=int, default=200)
parser.add_argument("--folder", type=Path, default=Path("runs/example-world-model"))
options = parser.parse_args()

data = aime_gym.collect("random", options.env, options.episodes, seed=0, name="pendulum-random")
print(data)

config = WorldModelConfig.rssmo().narrow(64)  # Leave out for the default.
model = WorldModel(options.env, config, TrainingConfig(sequence_length=20, batch_size=16))
model.learn(data, options.updates, progress_bar=True)
model.save(options.folder / "model.zip")

# The three abilities: filter states, imagine what follows, and judge observations.
sensors, actions = model.tensors(data[0])
states = model.filter(sensors, actions)
start = type(states)(states.deter[99], states.stoch[99])
_, imagined = model.imagine(start, actions[100:120])
for name, values in imagined.items():
    error = (values - sensors[name][100:120]).abs().mean()
    print(f"{name}: mean error over 20 imagined steps {error:.3f}")
print(f"evidence lower bound {model.elbo(sensors, actions):.1f} nats")
