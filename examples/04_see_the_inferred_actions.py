"""The actions behind a demonstration, inferred from observations, beside the true ones.

python examples/04_see_the_inferred_actions.py    # about 6 minutes on two cores
"""

import argparse
from pathlib import Path

import aime_gym
from agents import AIMEAgent
from agents.runs.figures import plot_inferred_actions

parser = argparse.ArgumentParser()
parser.add_argument("--updates", type=int, default=5_000, help="4,000 of them are AIME's start")
parser.add_argument("--folder", type=Path, default=Path("runs/example-actions"))
options = parser.parse_args()

demos = aime_gym.load_dataset("walker-walk-expert")
agent = AIMEAgent("AIME/walker-walk-mdp", "walker-mix-mdp")
agent.learn(demos.observations_only(), options.updates, progress_bar=True)

inferred = agent.infer_actions(demos[:2])
print("inferred actions of the first demonstration", inferred[0].shape)
scores = plot_inferred_actions(agent, demos[:2], options.folder / "inferred_actions.png")
print("R2 per joint", scores.round(2))
