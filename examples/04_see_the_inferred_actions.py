"""The actions behind a demonstration, inferred from observations, beside the true ones.

python examples/04_see_the_inferred_actions.py --updates 500
"""

import argparse
from pathlib import Path

import aime_gym
from agents import AIMEAgent, AIMEConfig
from agents.runs.figures import plot_inferred_actions

parser = argparse.ArgumentParser()
parser.add_argument("--updates", type=int, default=500)
parser.add_argument("--folder", type=Path, default=Path("runs/example-actions"))
options = parser.parse_args()

demos = aime_gym.load_dataset("walker-walk-expert")
config = AIMEConfig(batch_size=16, learning_rate=1e-3)
agent = AIMEAgent("AIME/walker-walk-mdp", "walker-mix-mdp", config)
agent.learn(demos.observations_only(), options.updates, progress_bar=True)

inferred = agent.infer_actions(demos[:2])
print("inferred actions of the first demonstration", inferred[0].shape)
scores = plot_inferred_actions(agent, demos[:2], options.folder / "inferred_actions.png")
print("R2 per joint", scores.round(2))
