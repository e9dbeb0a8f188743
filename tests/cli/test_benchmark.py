"""`aime-gym benchmark` and `aime-gym report`, on one small grid."""

import dataclasses
import sys

import numpy as np
import pytest

from agents.codec import encode
from agents.runs.benchmark import Outcome
from agents.runs.cell import ERROR, run_cell
from aime_gym.datasets import Dataset, save_dataset
from aime_gym.evaluation.benchmark import CellScore, tabulate
from aime_gym.evaluation.evaluate import Evaluation
from aime_gym.files import write_json

TASK = "cartpole-balance"
TEXT = """
from agents.runs.benchmark import Grid, Method

TINY = {"total_timesteps": 4, "config": {"policy": {"hidden_dim": 8}, "batch_size": 4}}
grid = Grid(
    methods=(
        Method("BC", "bc", TINY, minutes=1),
        Method("wrong", "bc", {**TINY, "demos": "walker-run-expert"}),
    ),
    tasks=("cartpole-balance",),
    episodes=2,
)
"""


@pytest.fixture
def file(places, collected):
    """A file with a grid, for which there are demonstrations."""
    card = dataclasses.replace(
        collected.card, name=f"{TASK}-expert", evaluation_returns=(100.0, 120.0)
    )
    save_dataset(Dataset([*collected], card), places / "data" / card.name)
    (places / "small.py").write_text(TEXT)
    return "small.py"


@pytest.fixture
def half_done(file, places, short_episodes):
    """The grid's folder, whose first cell is finished."""
    values = {}
    exec(TEXT, values)
    grid, folder = values["grid"], places / "runs" / "small"
    write_json(folder / "grid.json", encode(grid))
    run_cell(grid, grid.cells[0], folder)
    return folder


def test_a_grid_and_its_report(run, file, half_done):
    code, out, err = run(f"benchmark {file} --processes 1")
    assert (code, err) == (1, "")
    assert "2 cells, 1 of them finished; 1 to run, 1 at once." in out
    assert "AIME/cartpole-balance-mdp  BC" in out
    assert "The table is runs/small/scores.md, the figure runs/small/scores.png." in out
    assert "Failed: wrong cartpole-balance-mdp seed 0: ValueError: Dataset 'walker-run-" in out
    assert (half_done / "scores.png").exists()
    assert len(list(half_done.glob(f"cells/wrong-*/{ERROR}"))) == 1

    code, out, err = run("report runs/small")
    assert (code, out, err) == (0, "The report is runs/small/report.html.\n", "")
    html = (half_done / "report.html").read_text()
    assert "2 runs: 1 finished, 1 failed" in html
    assert "aime-gym train bc --env AIME/cartpole-balance-mdp --total-timesteps 4 --seed 0" in html
    assert "--demos cartpole-balance-expert --batch-size 4 --policy.hidden-dim 8" in html
    assert "--episodes 2" in html
    assert "Traceback (most recent call last)" in html
    assert html.count("data:image/svg+xml") == 2  # The figure and a learning curve.


def test_returns_without_an_expert_have_no_figure(run, file, monkeypatch):
    returns = Evaluation("Pendulum-v1", np.array([50.0, 60.0]))
    outcome = Outcome(tabulate([CellScore("BC", returns)]))
    monkeypatch.setattr("aime_gym.cli.benchmark.run_grid", lambda *_, **__: outcome)
    code, out, _ = run(f"benchmark {file}")
    assert code == 0
    assert out.endswith("The table is runs/small/scores.md.\n")


def test_a_film_beside_the_expert(run, half_done, opengl):
    code, out, err = run("report runs/small --out r.html --film cartpole-balance-mdp")
    assert (code, err) == (0, "")
    assert out == "Filming cartpole-balance-mdp.\nThe report is r.html.\n"
    assert (half_done / "videos" / "cartpole-balance-mdp.mp4").stat().st_size > 1_000
    assert "data:video/mp4;base64," in (half_done.parents[1] / "r.html").read_text()


def test_films_of_nothing(run, half_done):
    code, _, err = run("report runs/small --film walker-run-mdp")
    assert code == 2
    assert "No run of 'walker-run-mdp' is finished: there are cartpole-balance-mdp" in err
    code, _, err = run("report runs/small --out runs --film cartpole-balance-mdp")
    assert code == 2
    assert "runs is a folder, where a file is to be written" in err
    assert not (half_done / "report.html").exists()
    assert not (half_done / "videos").exists()


def test_wrong_files_and_folders(run, file, places, monkeypatch):
    (places / "none.py").write_text("x = 3")
    (places / "broken.py").write_text("\nx = 3 +")
    (places / "typo.py").write_text(TEXT.replace('"bc", TINY', '"bcc", TINY'))
    (places / "task.py").write_text(TEXT.replace('"cartpole-balance"', '"cartpole-balace"'))
    (places / "thesis").mkdir()
    (places / "thesis" / "main.tex").touch()
    monkeypatch.setitem(sys.modules, "ray", None)
    for line, message in {
        "benchmark missing.py": "no file missing.py",
        "benchmark none.py": "none.py defines no grid: it should have grid = Grid(...)",
        "benchmark broken.py": "broken.py cannot be run: invalid syntax (broken.py, line 2)",
        "benchmark typo.py": "no agent 'bcc': did you mean 'bc'",
        "benchmark task.py": "no task 'balace': did you mean 'balance'",
        "benchmark small.py --folder thesis": "has no grid, and is not empty",
        "benchmark small.py --processes 0": "processes is at least 1",
        "benchmark small.py --ray auto": "pip install 'aime-gym[ray]'",
        "report thesis": "thesis has no grid",
    }.items():
        code, _, err = run(line)
        assert code == 2, line
        assert message in err, (line, err)
        assert len(err.splitlines()) == 1
    assert not (places / "runs").exists()
