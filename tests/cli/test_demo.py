import json
from dataclasses import replace

import pytest

from agents.running import STEP
from agents.runs.logs import read_curve
from aime_gym.cli import demo
from aime_gym.datasets import load_dataset

LINE = "demo --task stand --updates 2 --episodes 2 --folder d"


@pytest.fixture(autouse=True)
def small(short_episodes, monkeypatch):
    """Episodes of 6 steps, two updates of cloning and of the start, and a video of 5 frames."""
    monkeypatch.setattr(demo, "CLONING_UPDATES", 2)
    monkeypatch.setattr(demo, "CONFIG", replace(demo.CONFIG, start_updates=2))
    monkeypatch.setattr(demo, "VIDEO_SECONDS", 0.25)


@pytest.fixture
def no_opengl(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "disabled")


@pytest.mark.usefixtures("no_opengl")
def test_without_opengl_all_but_the_video_is_there(run, places):
    folder = places / "d"
    folder.mkdir()
    (folder / "progress.csv").write_text(f"{STEP},eval/score\n0,99.0\n1,99.0\n")
    (folder / "imitation.mp4").write_text("Of an earlier demo.")
    (folder / "notes.txt").write_text("The user's.")
    code, _, err = run(LINE)
    assert code == 2
    assert "d is not that of a demo, and not empty (notes.txt): choose another one." in err
    (folder / "notes.txt").rename("notes.txt")
    code, out, err = run(LINE)
    assert (code, err) == (0, "")
    assert "scores over 2 episodes" in out
    assert "at most 2 updates" in out
    methods = ("random", demo.BC, demo.START, demo.AIME, "expert")
    assert all(any(method in line for line in out.splitlines()) for method in methods)
    assert "No video: No pictures: MUJOCO_GL is 'disabled'. Unset it" in out
    assert out.index("expert") < out.index("No video")

    rows = json.loads((folder / "scores.json").read_text())
    assert [row["num_episodes"] for row in rows[:4]] == [2, 2, 2, 2]
    origins = {row["method"]: [origin["name"] for origin in row["origins"]] for row in rows}
    assert origins[methods[1]] == ["walker-stand-expert"]
    for method in (demo.START, demo.AIME):
        assert origins[method] == ["walker-mix-mdp", "walker-stand-expert"]
    curve = read_curve(folder / "progress.csv")
    assert {row[STEP] for row in curve} == {0, 2, 4}
    assert "Learning curve: d/learning_curve.png" in out
    assert (folder / "learning_curve.png").stat().st_size > 1_000
    assert not (folder / "imitation.mp4").exists()


@pytest.mark.usefixtures("opengl")
def test_with_opengl_there_is_a_video(places, capsys):
    task = "walker-stand"
    demos = load_dataset(f"{task}-expert")
    shown = demo.Demo(f"AIME/{task}-mdp", demos, 1.0, 1, 1, 0, places)
    shown.act_randomly()
    shown.results.update(dict.fromkeys((demo.BC, demo.AIME), shown.results[demo.RANDOM]))
    shown.film()
    assert "Video of expert and imitators" in capsys.readouterr().out
    assert (places / "imitation.mp4").stat().st_size > 1_000
