import io
import json

import matplotlib
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from aime_gym.card import Origin
from aime_gym.evaluation.evaluate import Evaluation
from aime_gym.evaluation.plots import plot_learning_curve
from aime_gym.evaluation.statistics import bootstrap_interval, interquartile_mean
from aime_gym.evaluation.table import ScoreRow, ScoreTable, compare

ID = "AIME/walker-run-mdp"
MODEL = Origin("walker-mix-mdp", "aime-gym", "0123456789abcdef")


def evaluation(mean, expert=200.0, env_id=ID):
    returns = np.random.default_rng(int(mean)).normal(mean, 10.0, size=50)
    return Evaluation(env_id, returns, expert_return=expert, normalisation="published expert")


def test_markdown():
    good = evaluation(150)
    text = compare({"AIME": good, "BC": evaluation(60)}, {"AIME": [MODEL]}).to_markdown()
    header, _, aime, bc = text.splitlines()
    assert header.startswith("| environment | method | from | n | return | score |")
    low, high = good.score_interval
    assert aime == (
        f"| {ID} | AIME | walker-mix-mdp (aime-gym, 01234567) | 50 | {good.mean:.1f} | "
        f"{good.score:.1f} | {low:.1f} to {high:.1f} | {good.score_iqm:.1f} |"
    )
    assert "| BC | - | 50 |" in bc


def test_several_training_seeds():
    runs = [evaluation(mean) for mean in (100, 120, 140)]
    (row,) = compare({"AIME": runs}).rows
    scores = [run.scores for run in runs]
    assert row.score == pytest.approx(np.mean(scores))
    assert row.iqm == pytest.approx(float(interquartile_mean(np.ravel(scores))))
    assert row.interval == bootstrap_interval(np.mean(scores, axis=1))
    assert row.cells()[3] == "150 (3 seeds)"


def test_without_an_expert():
    (row,) = compare({"random": evaluation(30, expert=None)}).rows
    assert row.cells()[5] == "-"
    assert row.score == row.mean
    assert row.to_json()["score"] is None


def test_rich_shows_every_cell():
    table = compare({"AIME": evaluation(150)}, {"AIME": [MODEL]})
    console = Console(file=io.StringIO(), width=200)
    console.print(table.to_rich())
    shown = console.file.getvalue()
    assert all(cell in shown for cell in table.rows[0].cells())


def test_json():
    table = compare({"AIME": evaluation(150)}, {"AIME": [MODEL]})
    (row,) = json.loads(json.dumps(table.to_json()))
    assert row["origins"] == [
        {"name": "walker-mix-mdp", "source": "aime-gym", "sha256": "0123456789abcdef"}
    ]
    assert row["evaluations"][0]["env_id"] == ID


def test_what_cannot_be_compared():
    with pytest.raises(ValueError, match="one environment and one expert"):
        ScoreRow("AIME", (evaluation(1), evaluation(1, env_id="AIME/walker-walk-mdp")))
    with pytest.raises(ValueError, match="they are of none"):
        ScoreRow("AIME", ())
    with pytest.raises(ValueError, match="No evaluations of BC: there are AIME"):
        compare({"AIME": evaluation(1)}, {"BC": [MODEL]})


def coloured(path):
    """Share of the pixels that are not grey."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return np.mean(np.ptp(pixels, axis=-1) > 30)


def test_bar_chart(tmp_path):
    before = dict(matplotlib.rcParams)
    table = compare({"AIME": evaluation(150), "BC": evaluation(60)})
    path = table.plot(tmp_path / "new" / "scores.png")
    assert coloured(path) > 0.1
    assert table.plot(tmp_path / "scores.svg").read_text().startswith("<?xml")
    assert dict(matplotlib.rcParams) == before
    mixed = ScoreTable(table.rows + compare({"random": evaluation(3, expert=None)}).rows)
    with pytest.raises(ValueError, match="some rows have no expert"):
        mixed.plot(tmp_path / "mixed.png")


def test_learning_curve(tmp_path):
    points = [(float(x), x / 2, x / 2 - 1, x / 2 + 1) for x in range(0, 100, 10)]
    path = plot_learning_curve(
        {"AIME": points, "BCO": points[:5]},
        tmp_path / "curve.png",
        "gradient updates",
        "return",
        references={"expert": 60.0},
    )
    assert coloured(path) > 0.002
    with pytest.raises(ValueError, match="'AIME' has no point"):
        plot_learning_curve({"AIME": []}, path, "x", "y")
