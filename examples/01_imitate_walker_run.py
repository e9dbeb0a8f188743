"""Imitate a running walker from observations alone.

The world model knows the walker's body from random and learning-time behaviour; it has never seen
it run well. The demonstrations are stripped of actions and rewards before AIME sees them.

    python examples/01_imitate_walker_run.py

On two cores it takes about 5 minutes.
"""

import argparse

import aime_gym
from agents import AIMEAgent, BCAgent, WorldModel

parser = argparse.ArgumentParser()
parser.add_argument("--updates", type=int, default=5_000, help="4,000 of them are AIME's start")
parser.add_argument("--episodes", type=int, default=100)
options = parser.parse_args()

ENV_ID = "AIME/walker-run-mdp"
demos = aime_gym.load_dataset("walker-run-expert")
world_model = WorldModel.load("walker-mix-mdp")

aime = AIMEAgent(ENV_ID, world_model)
aime.learn(demos.observations_only(), options.updates, progress_bar=True)

bc = BCAgent(ENV_ID).learn(demos, options.updates, progress_bar=True)  # Sees the actions.

table = aime_gym.compare(
    {
        "expert": aime_gym.expert_evaluation(demos.card),
        "BC": aime_gym.evaluate(bc, ENV_ID, episodes=options.episodes),
        "AIME": aime_gym.evaluate(aime, ENV_ID, episodes=options.episodes),
    }
)
print(table.to_markdown())
