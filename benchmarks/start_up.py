"""Time until a fresh process has imported the package, or shown the command's help.

    python benchmarks/start_up.py

Beside each stands Python's own start, and whether PyTorch, the simulator or OpenGL were loaded.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
from timing import in_turn, print_table, ratio, save, seconds_of, shown

HEAVY = ("torch", "mujoco", "dm_control", "OpenGL", "stable_baselines3", "matplotlib")
SCRIPTS = {
    "python": "pass",
    "import gymnasium": "import gymnasium",
    "import aime_gym": "import aime_gym",
    "aime-gym --help": "from aime_gym.cli import main; main(['--help'])",
    "import agents": "import agents",
}


def start(script: str) -> None:
    """Runs a script in a process of its own."""
    subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)


def heavy_after(script: str) -> list[str]:
    """Which heavy packages a script loads."""
    told = f"import atexit, sys; atexit.register(lambda: print('\\n', [m for m in {HEAVY} if m in sys.modules]))"  # noqa: E501
    done = subprocess.run(
        [sys.executable, "-c", f"{told}\n{script}"], capture_output=True, text=True, check=True
    )
    return [name for name in HEAVY if f"'{name}'" in done.stdout.splitlines()[-1]]


def main() -> None:
    """Measures, prints, and writes JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    paths = {
        name: lambda script=script: seconds_of(lambda: start(script))
        for name, script in SCRIPTS.items()
    }
    seconds = in_turn(paths, options.rounds)
    results = {
        name: {
            "seconds": float(np.median(seconds[name])),
            "times python": ratio(seconds, name, "python"),
            "loads": heavy_after(script),
        }
        for name, script in SCRIPTS.items()
    }
    rows = [
        (name, f"{found['seconds']:.2f} s", shown(found["times python"]), ", ".join(found["loads"]))
        for name, found in results.items()
    ]
    print_table(("what", "time", "times Python's own start", "heavy packages loaded"), rows)
    save("start_up", vars(options), results, options.out)


if __name__ == "__main__":
    main()
