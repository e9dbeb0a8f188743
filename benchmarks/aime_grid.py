"""AIME and its baselines on the tasks of the paper, one seed of every cell.

    aime-gym datasets make walker-mix
    aime-gym datasets make cheetah-mix
    aime-gym benchmark benchmarks/aime_grid.py

With more seeds here, the same command adds their cells. Minutes are those of one core.
"""

from agents.runs.benchmark import Grid, Method

grid = Grid(
    methods=(
        Method("AIME", kind="aime", minutes=20, paper="AIME"),
        Method("BC", kind="bc", minutes=10),
        Method("BCO", kind="bco", minutes=10, paper="BCO(0)"),
        Method("IIDM", kind="iidm", minutes=10),
    ),
    tasks=(
        "walker-stand",
        "walker-walk",
        "walker-run",
        "cheetah-run",
        "cheetah-runbackward",
        "cheetah-flip",
        "cheetah-flipbackward",
    ),
    setups=("mdp", "lpomdp"),
    embodiments=("mix",),
    seeds=(0,),
)
