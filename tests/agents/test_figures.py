"""Figures of learning: where a curve begins, its intervals, the joints' names, and formats."""

import csv

import pytest

from agents import AIMEAgent, BCAgent, WorldModel, WorldModelConfig
from agents.runs.callbacks import SCORE, ScoreCallback
from agents.runs.figures import joint_names, plot_curve, plot_inferred_actions
from agents.runs.logs import CURVE, make_logger
from agents.runs.recipes import BCRecipe
from aime_gym import collect
from aime_gym.evaluation import plots

ENV_ID = "AIME/walker-stand-mdp"
MAGIC = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}


@pytest.fixture
def data(short_episodes):
    return collect("random", ENV_ID, episodes=3, seed=0, name="walker-random")


def test_a_curve_begins_before_the_first_update_and_has_intervals(data, tmp_path, monkeypatch):
    agent = BCAgent(ENV_ID, device="cpu")
    agent.set_logger(make_logger(tmp_path, verbose=0))
    agent.learn(data, 2, ScoreCallback(1, episodes=3, at_start=True), log_interval=10)
    with (tmp_path / CURVE).open() as file:
        scored = [row for row in csv.DictReader(file) if row.get(SCORE)]
    assert [float(row["time/total_timesteps"]) for row in scored] == [0, 1, 2]
    for row in scored:
        low, mean, high = (float(row[SCORE + end]) for end in ("_low", "", "_high"))
        assert low <= mean <= high
        assert low < high

    drawn = {}
    monkeypatch.setattr(
        "agents.runs.figures.plot_learning_curve", lambda curves, *rest: drawn.update(curves)
    )
    assert plot_curve(tmp_path / CURVE, tmp_path / "curve.png")
    (points,) = drawn.values()
    assert [point[0] for point in points] == [0, 1, 2]
    assert all(low < high for _, _, low, high in points)


def test_few_points_are_marked(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: figures.append(figure))
    for count in (3, plots.MARKED_POINTS + 1):
        points = [(x, 0.0, 0.0, 0.0) for x in range(count)]
        plots.plot_learning_curve({"score": points}, tmp_path / "curve.png", "x", "y")
    markers = [figure.axes[0].lines[0].get_marker() for figure in figures]
    assert markers == ["o", ""]


def test_inferred_actions_have_the_names_of_joints(data, tmp_path):
    model = WorldModel(ENV_ID, WorldModelConfig().narrow(), device="cpu")
    agent = AIMEAgent(ENV_ID, model, device="cpu")
    assert joint_names(agent) == [
        f"{side}_{joint}" for side in ("right", "left") for joint in ("hip", "knee", "ankle")
    ]
    scores = plot_inferred_actions(agent, data, tmp_path / "actions.svg")
    assert scores.shape == (6,)
    assert (tmp_path / "actions.svg").read_bytes().startswith(MAGIC["svg"])


def test_joints_without_names_have_numbers():
    model = WorldModel("Pendulum-v1", WorldModelConfig().narrow(), device="cpu")
    assert joint_names(AIMEAgent("Pendulum-v1", model, device="cpu")) == ["action 0"]


@pytest.mark.parametrize("form", MAGIC)
def test_recipes_draw_in_the_format_that_was_asked_for(data, tmp_path, form, capsys):
    recipe = BCRecipe(env=ENV_ID, demos="unused", format=form, episodes=1)
    run = type("Run", (), {"folder": tmp_path, "progress_bar": False})()
    agent = BCAgent(ENV_ID, device="cpu")
    agent.set_logger(make_logger(tmp_path, verbose=0))
    agent.learn(data, 1, recipe.callbacks(run))
    recipe.finish(agent, data, run)
    figure = tmp_path / "figures" / f"learning_curve.{form}"
    assert figure.read_bytes().startswith(MAGIC[form])
    printed = capsys.readouterr().out
    assert str(figure) in printed
    assert str(tmp_path / "evaluation.json") in printed
    assert "format" not in recipe.identity
