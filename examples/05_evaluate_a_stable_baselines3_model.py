"""Any Stable-Baselines3 model trains on these environments and is scored in the same way.

python examples/05_evaluate_a_stable_baselines3_model.py    # about a minute on two cores

With --steps 100000 it stands, after about 25 minutes.
"""

import argparse

from stable_baselines3 import SAC

import aime_gym

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=5_000)
parser.add_argument("--episodes", type=int, default=10)
options = parser.parse_args()

model = SAC("MlpPolicy", "AIME/walker-stand-mdp", learning_starts=500, seed=0)
model.learn(options.steps, progress_bar=False)
print(aime_gym.evaluate(model, "AIME/walker-stand-mdp", episodes=options.episodes))
