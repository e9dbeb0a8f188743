"""``aime-gym train amigo`` and films of grid worlds."""

from __future__ import annotations

import json

import imageio.v3 as iio
import numpy as np
import pytest

from agents import AMIGoAgent, AMIGoConfig
from agents.runs.goal_video import GOAL_COLOUR, draw_goal
from agents.runs.logs import read_curve
from agents.runs.recipe import train
from agents.runs.recipes import AMIGoRecipe

ENV = "MiniGrid-Empty-Random-5x5-v0"
SMALL_CONFIG = AMIGoConfig(num_envs=4, batch_size=2, unroll_length=20)
SMALL = "--num-envs 4 --batch-size 2 --unroll-length 20 --teacher-batch-size 5 --device cpu"


@pytest.fixture
def trained(run, places):
    """The run folder of a short run, by variant."""

    def get(variant="default"):
        line = f"train amigo --env {ENV} --variant {variant} --total-timesteps 400 --episodes 2"
        line += f" --evaluation-interval 200 --checkpoint-interval 80 {SMALL}"
        if variant == "none":
            line = line.replace("--teacher-batch-size 5", "")
        code, out, err = run(line)
        assert code == 0, err
        assert "mean return" in out
        return places / f"runs/amigo-MiniGrid-Empty-Random-5x5-v0-{variant}-seed0"

    return get


def test_a_run_has_curves_maps_and_scores(trained):
    folder = trained()
    rows = read_curve(folder / "progress.csv")
    expected = {
        "mean_return", "episode_length", "solved", "intrinsic_reward", "entropy", "policy_loss",
        "value_loss", "loss", "grad_norm", "t_star", "goals_reached", "goal_steps",
        "teacher_return", "teacher_entropy",
    }  # fmt: skip
    assert expected <= {name.removeprefix("train/") for name in rows[0]}
    assert [row["time/total_timesteps"] for row in rows if "eval/mean_return" in row] == [200, 400]
    for name in ("learning", "goals"):
        assert iio.imread(folder / "figures" / f"{name}.png").std() > 1
    assert json.loads((folder / "evaluation.json").read_text())["deterministic"] is False
    assert AMIGoAgent.load(folder / "final.zip").goal_map.counts.sum() > 0


def test_a_run_without_goals_has_no_map_of_them(trained):
    folder = trained("none")
    assert (folder / "figures" / "learning.png").exists()
    assert not (folder / "figures" / "goals.png").exists()


def test_a_run_that_was_cut_off_ends_as_one_that_was_not(run, trained, places, monkeypatch):
    whole = AMIGoAgent.load(trained() / "final.zip")
    steps = AMIGoAgent._collect

    def cut_off(agent):
        if agent.num_timesteps == 240:
            raise KeyboardInterrupt
        steps(agent)

    monkeypatch.setattr(AMIGoAgent, "_collect", cut_off)
    line = f"train amigo --env {ENV} --total-timesteps 400 --episodes 2 {SMALL}"
    line += " --evaluation-interval 200 --checkpoint-interval 80 --folder cut"
    assert run(line)[0] != 0
    assert AMIGoAgent.load(places / "cut/checkpoint.zip").num_timesteps >= 160
    monkeypatch.setattr(AMIGoAgent, "_collect", steps)
    assert run(line)[0] == 0
    resumed = AMIGoAgent.load(places / "cut/final.zip")
    for name, weight in whole.student.state_dict().items():
        assert weight.equal(resumed.student.state_dict()[name])
    names = [name for name in read_curve(places / "cut/progress.csv")[0] if "time/" not in name]
    curves = [read_curve(path / "progress.csv") for path in (trained(), places / "cut")]
    for first, second in zip(*curves, strict=True):
        assert [first.get(name) for name in names] == [second.get(name) for name in names]


def test_a_loss_that_is_not_finite_leaves_the_last_checkpoint(run, places, monkeypatch):
    train_once = AMIGoAgent._train

    def poisoned(agent):
        if agent.num_timesteps == 320:
            agent.student.value.weight.data.fill_(float("nan"))
        return train_once(agent)

    monkeypatch.setattr(AMIGoAgent, "_train", poisoned)
    line = f"train amigo --env {ENV} --total-timesteps 400 {SMALL} --checkpoint-interval 80"
    code, _, err = run(f"{line} --folder bad")
    assert code == 2
    assert "loss of the Student is nan after 320 frames" in err
    kept = AMIGoAgent.load(places / "bad/checkpoint.zip")
    assert kept.num_timesteps == 240
    assert not kept.student.value.weight.isnan().any()
    assert not (places / "bad/final.zip").exists()


def test_films_show_the_goal(run, trained, places):
    folder = trained()
    line = f"video --env {ENV} --policy {folder} --size 80 --seed 3"
    assert run(f"{line} --out a.mp4")[0] == 0
    assert run(f"{line} --out b.mp4 --goals False --sampled")[0] == 0
    assert run(f"video --env {ENV} --policy random --size 80 --out c.mp4")[0] == 0
    shown = {name: iio.imread(places / f"{name}.mp4").astype(int) for name in "abc"}
    magenta = {
        name: (np.abs(frames - GOAL_COLOUR).max(-1) < 60).any((1, 2))
        for name, frames in shown.items()
    }
    assert magenta["a"].all()
    assert not magenta["b"].any()
    assert not magenta["c"].any()
    assert shown["a"].shape[1:] == (80, 80, 3)


def test_goal_is_a_frame_around_its_cell():
    drawn = draw_goal(np.zeros((24, 32, 3), np.uint8), (2, 1), 8)
    rows, columns = np.nonzero(drawn.any(-1))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8, 15, 16, 23)
    assert not drawn[9:15, 17:23].any()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--env CartPole-v1", "AMIGo learns in MiniGrid environments"),
        ("--env MiniGrid-Empty-Random-55-v0", "did you mean 'MiniGrid-Empty-Random-5x5-v0'"),
        (f"--env {ENV} --num-envs 12", "batch_size divides num_envs"),
        (f"--env {ENV} --variant none --restart-at-goal", "nothing that restart_at_goal"),
    ],
)
def test_bad_input_before_training(run, places, line, message):
    code, _, err = run(f"train amigo {line} --total-timesteps 400 --device cpu")
    assert code == 2
    assert message in err
    assert not (places / "runs").exists() or not list((places / "runs").rglob("*.zip"))


def test_run_of_another_variant_or_grid(run, trained):
    folder = trained()
    base = f"train amigo --total-timesteps 400 {SMALL} --folder {folder}"
    code, _, err = run(f"{base} --env {ENV} --variant window_adaptive")
    assert code == 2
    assert "variant default, not window_adaptive" in err
    code, _, err = run(f"{base} --env MiniGrid-Empty-Random-6x6-v0")
    assert code == 2
    assert "another configuration" in err
    code, _, err = run(f"evaluate --env MiniGrid-Empty-Random-6x6-v0 --policy {folder}")
    assert code == 2
    assert "does not fit" in err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--env MiniGrid-Empty-Random-5x5-v0 --policy random --out file/v.mp4", "file"),
        ("--env MiniGrid-Empty-Random-5x5-v0 --policy random --out v.gif", ".mp4"),
        (
            "--env MiniGrid-Empty-Random-5x5-v0 --policy random --out v.mp4 --goals True",
            "Only an AMIGoAgent",
        ),
        ("--env AIME/walker-run-mdp --policy random --out v.mp4", "needs --demos"),
        (
            "--env AIME/walker-run-mdp --policy random --out v.mp4 --demos d --goals True",
            "grid worlds",
        ),
        ("--env MiniGrid-Empty-Random-5x5-v0 --policy random --out v.mp4 --label a", "no --label"),
    ],
)
def test_bad_films(run, places, line, message):
    (places / "file").write_text("not a folder")
    code, _, err = run(f"video {line}")
    assert code == 2
    assert message in err
    assert not (places / "v.mp4").exists()


def test_goals_are_asked_for_where_there_are_none(run, trained):
    code, _, err = run(f"video --env {ENV} --policy {trained('none')} --out v.mp4 --goals True")
    assert code == 2
    assert "none has no teacher" in err


def test_recipe_from_python(places):
    recipe = AMIGoRecipe(env=ENV, total_timesteps=80, episodes=1, config=SMALL_CONFIG)
    assert train(recipe).num_timesteps == 80
    assert recipe.run_folder.name == "amigo-MiniGrid-Empty-Random-5x5-v0-default-seed0"
