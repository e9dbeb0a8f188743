"""Every example runs, on a tiny budget."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
TINY = {
    "01_imitate_walker_run.py": ["--updates", "2", "--episodes", "2"],
    "02_look_at_an_environment.py": [],
    "03_collect_and_train_a_world_model.py": ["--episodes", "2", "--updates", "2"],
    "04_see_the_inferred_actions.py": ["--updates", "2"],
    "05_evaluate_a_stable_baselines3_model.py": ["--steps", "510", "--episodes", "2"],
    "07_altered_bodies.py": ["--episodes", "2"],
    "06_ppo_in_a_grid_world.py": ["--steps", "2000", "--episodes", "2"],
}


def test_no_example_is_left_out():
    assert sorted(TINY) == sorted(path.name for path in EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("name", sorted(TINY))
def test_example(name, tmp_path):
    run = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *TINY[name]],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.strip()


@pytest.mark.parametrize("name", sorted(TINY))
def test_example_is_short(name):
    assert len((EXAMPLES / name).read_text().splitlines()) <= 60
