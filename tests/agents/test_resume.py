"""Training that was cut ends as training that was not: weights to the bit, curves whole."""

import dataclasses
import os
import runpy
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch

from agents import TrainingConfig
from agents.archive import Archive
from agents.base import Learner
from agents.running import STEP
from agents.runs.callbacks import ScoreCallback
from agents.runs.folder import claim, train_in_folder
from agents.runs.logs import make_logger, read_curve
from agents.runs.recipe import train
from agents.runs.recipes import BCRecipe
from aime_gym.datasets import Dataset

TOTAL, LOG_INTERVAL = 8, 3


LAPTOP = {  # In short: the start, the prior, and windows from stored states.
    "start_updates": 2,
    "action_prior": 0.3,
    "initial_std": 0.08,
    "refresh_interval": 3,
    "standardize": True,
}


@pytest.fixture(
    params=[
        "world model",
        "residual",
        "decaying",
        "aime",
        "finetuned",
        "laptop",
        "laptop finetuned",
        "bc",
        "stacked",
    ]
)
def make(request, make_model, make_aime, make_bc):
    decay = TrainingConfig(5, 4, decay_timesteps=6)
    return {
        "world model": lambda: make_model("lpomdp", cell="rssmo"),
        "residual": lambda: make_model(cell="residual"),
        "decaying": lambda: make_model(training=decay),
        "aime": make_aime,
        "finetuned": lambda: make_aime(finetune=True, guidance=True),
        "laptop": lambda: make_aime(**LAPTOP),
        "laptop finetuned": lambda: make_aime(finetune=True, **LAPTOP),
        "bc": lambda: make_bc(batch_size=7),
        "stacked": lambda: make_bc("lpomdp", batch_size=5),
    }[request.param]


def test_a_state_of_another_kind_of_device(make_aime, pendulum, tmp_path, weights, same):
    """All goes on but the generators, whose states cannot be set."""
    agent = make_aime(seed=5).learn(pendulum, 3)
    agent.save(tmp_path / "agent.zip")
    archive = Archive.read(tmp_path / "agent.zip", "AIMEAgent")
    archive.counters["device_type"] = "cuda"
    archive.training |= {
        f"{name}.state": torch.zeros(16, dtype=torch.uint8)
        for name in ("generator", "acting_generator")
    }
    archive.write(tmp_path / "agent.zip")
    loaded = type(agent).load(tmp_path / "agent.zip", device="cpu")
    assert loaded.num_timesteps == 3
    assert same(weights(agent), weights(loaded))
    assert loaded.generator.initial_seed() == 5 + 3
    assert loaded.acting_generator.initial_seed() != loaded.generator.initial_seed()
    assert len(loaded.optimizer.state) == len(agent.optimizer.state) > 0
    loaded.learn(pendulum, 1, reset_num_timesteps=False)


def learn(learner, data, folder, steps):
    learner.set_logger(make_logger(folder, learner.num_timesteps, verbose=0))
    return learner.learn(data, steps, log_interval=LOG_INTERVAL, reset_num_timesteps=False)


@pytest.mark.parametrize("cut", [1, 3, 4])
def test_saving_and_loading_in_between_changes_nothing(
    make, pendulum, tmp_path, weights, same, cut
):
    whole = learn(make(), pendulum, tmp_path / "whole", TOTAL)
    first = learn(make(), pendulum, tmp_path / "cut", cut)
    first.save(tmp_path / "checkpoint.zip")
    second = type(first).load(tmp_path / "checkpoint.zip", device="cpu")
    learn(second, pendulum, tmp_path / "cut", TOTAL - cut)
    assert second.num_timesteps == TOTAL
    assert same(weights(whole), weights(second))
    curve = read_curve(tmp_path / "whole" / "progress.csv")
    assert [row[STEP] for row in curve] == [3, 6]
    assert read_curve(tmp_path / "cut" / "progress.csv") == curve


def run(make, data, folder, callbacks=(), total=TOTAL, config=None):
    def learn(learner, steps, all_callbacks):
        learner.learn(
            data, steps, all_callbacks, log_interval=LOG_INTERVAL, reset_num_timesteps=False
        )

    return train_in_folder(
        folder, config or {"seed": 0}, make, learn, total, callbacks, checkpoint_interval=2
    )


@pytest.mark.parametrize("at", [1, 5])
def test_a_killed_run_goes_on(make, pendulum, tmp_path, weights, same, at, kill):
    whole = run(make, pendulum, tmp_path / "whole")
    with pytest.raises(kill.Error):
        run(make, pendulum, tmp_path / "cut", [kill(at)])
    assert not (tmp_path / "cut" / "final.zip").exists()
    again = run(make, pendulum, tmp_path / "cut")
    assert same(weights(whole), weights(again))
    assert same(weights(whole), weights(type(whole).load(tmp_path / "cut" / "final.zip")))
    curve = read_curve(tmp_path / "whole" / "progress.csv")
    assert read_curve(tmp_path / "cut" / "progress.csv") == curve


def test_a_run_killed_twice_goes_on(make_aime, pendulum, tmp_path, weights, same, kill):
    whole = run(make_aime, pendulum, tmp_path / "whole")
    for at in (3, 7):
        with pytest.raises(kill.Error):
            run(make_aime, pendulum, tmp_path / "cut", [kill(at)])
    again = run(make_aime, pendulum, tmp_path / "cut")
    assert same(weights(whole), weights(again))
    curve = read_curve(tmp_path / "whole" / "progress.csv")
    assert read_curve(tmp_path / "cut" / "progress.csv") == curve


def test_a_finished_run_is_not_run_again_and_may_be_prolonged(
    make_aime, pendulum, tmp_path, weights, same, kill
):
    first = run(make_aime, pendulum, tmp_path, total=6)
    curve = read_curve(tmp_path / "progress.csv")
    assert same(weights(first), weights(run(make_aime, pendulum, tmp_path, [kill(7)], total=6)))
    assert read_curve(tmp_path / "progress.csv") == curve
    longer = run(make_aime, pendulum, tmp_path, total=10)
    at_once = run(make_aime, pendulum, tmp_path / "at once", total=10)
    assert same(weights(longer), weights(at_once))


def test_a_run_that_goes_on_has_no_end_until_it_ends(make_bc, pendulum, tmp_path, kill):
    first = run(make_bc, pendulum, tmp_path, total=4)
    with pytest.raises(kill.Error):
        run(make_bc, pendulum, tmp_path, [kill(7)])
    assert not (tmp_path / "final.zip").exists()
    assert type(first).load(tmp_path, device="cpu").num_timesteps == 6


def test_a_run_of_version_0_1_is_left_alone(make_bc, pendulum, tmp_path):
    make_bc().save(tmp_path / "checkpoint.zip")
    (tmp_path / "config.json").write_text('{"seed": 0}')
    with pytest.raises(ValueError, match=r"a run of version 0\.1, .*choose another folder"):
        run(make_bc, pendulum, tmp_path, config={"kind": "bc", "seed": 0})


def test_configurations_that_are_not_finite(make_bc, pendulum, tmp_path):
    for _ in range(2):
        run(make_bc, pendulum, tmp_path, total=2, config={"limit": float("inf")})
    assert '"limit": "inf"' in (tmp_path / "config.json").read_text()
    with pytest.raises(ValueError, match="limit inf, not nan"):
        run(make_bc, pendulum, tmp_path, total=2, config={"limit": float("nan")})


def test_the_same_environment_under_both_ids(tmp_path):
    first, second = (
        BCRecipe(env=env, demos="d", evaluation_interval=interval)
        for env, interval in (("Pendulum-v1", 10), ("aime_gym:Pendulum-v1", 20))
    )
    assert first.identity == second.identity
    assert first.run_folder == second.run_folder


def test_a_learner_of_no_known_kind(tmp_path):
    class Idle(Learner):
        parts = ()

    class IdleRecipe(BCRecipe):
        def make(self):
            return Idle("Pendulum-v1", device="cpu")

        def data(self, progress_bar):
            return None

    recipe = IdleRecipe(env="Pendulum-v1", demos="d", folder=tmp_path / "run")
    with pytest.raises(TypeError, match="an OfflineLearner or an OnlineLearner, not Idle"):
        train(recipe)


def test_another_configuration_in_the_folder_is_refused(make_aime, pendulum, tmp_path):
    run(make_aime, pendulum, tmp_path, config={"seed": 0, "objective": "elbo"})
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(
        ValueError, match=r"(?s)another configuration.*seed 0, not 1.*choose another folder"
    ):
        run(make_aime, pendulum, tmp_path, config={"seed": 1, "objective": "elbo"})
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_claiming_a_folder(tmp_path):
    claim(tmp_path, {"seed": 1})
    claim(tmp_path, {"seed": 0})
    (tmp_path / "checkpoint.zip").touch()
    claim(tmp_path, {"added": None, "seed": 0})
    with pytest.raises(ValueError, match="another configuration"):
        claim(tmp_path, {"seed": 1})


def test_a_mistake_claims_no_folder(make_aime, pendulum, pendulum_data, tmp_path):
    def mistaken():
        raise ValueError("no such model")

    with pytest.raises(ValueError, match="no such model"):
        run(mistaken, pendulum, tmp_path)
    with pytest.raises(ValueError, match="of body 'walker'"):
        run(make_aime, pendulum_data(body="walker"), tmp_path)
    assert not (tmp_path / "config.json").exists()
    run(make_aime, pendulum, tmp_path, config={"seed": 1})


def test_there_is_a_score_at_the_end(make_bc, pendulum, tmp_path):
    scoring = ScoreCallback(3, episodes=1)
    run(make_bc, pendulum, tmp_path, [scoring], total=4)
    curve = read_curve(tmp_path / "progress.csv")
    assert [row[STEP] for row in curve if "eval/mean_return" in row] == [3, 4]


def test_what_cannot_be_scored(make_bc, make_model, make_info, pendulum):
    with pytest.raises(TypeError, match="a WorldModel does not"):
        make_model().learn(pendulum, 1, ScoreCallback(1))
    agent = make_bc()
    agent.env_info = dataclasses.replace(agent.env_info, env_id=None)
    with pytest.raises(ValueError, match=r"an environment with an id.*gymnasium\.register"):
        agent.learn(pendulum, 1, ScoreCallback(1))
    with pytest.raises(ValueError, match="log_interval is at least 1; got 0"):
        agent.learn(pendulum, 1, log_interval=0)


def test_missing_opengl_is_told_before_training(make_bc, pendulum, tmp_path, monkeypatch):
    def missing(*size):
        raise RuntimeError("No OpenGL works here")

    monkeypatch.setattr("agents.runs.callbacks.make_gl_context", missing)
    agent = make_bc("visual")
    images = [t.with_images(np.zeros((len(t), 64, 64, 3), np.uint8)) for t in pendulum]
    with pytest.raises(RuntimeError, match="No OpenGL"):
        agent.learn(Dataset(images, pendulum.card), 9, ScoreCallback(9))
    assert agent.num_timesteps == 0


SCRIPT = """
    import sys
    from pathlib import Path
    import numpy as np
    from agents import WorldModel, WorldModelConfig, TrainingConfig
    from agents.runs.folder import train_in_folder
    from aime_gym.datasets import Card, Dataset, Trajectory

    def make():
        config = WorldModelConfig().narrow(8)
        return WorldModel(
            "AIME/pendulum-swingup-mdp", config, TrainingConfig(5, 4), device="cpu"
        )

    rng = np.random.default_rng(0)
    sensors = {"orientation": rng.normal(size=(30, 2)), "velocity": rng.normal(size=(30, 1))}
    trajectory = Trajectory(sensors, actions=rng.uniform(-1, 1, (29, 1)))
    data = Dataset([trajectory], Card("toy", "pendulum"))

    def learn(learner, steps, callbacks):
        learner.learn(data, steps, callbacks, log_interval=7, reset_num_timesteps=False)

    learner = train_in_folder(
        Path(sys.argv[1]), {"seed": 0}, make, learn, 60, checkpoint_interval=1
    )
"""


def test_a_process_killed_at_any_moment_goes_on(tmp_path, weights, same, monkeypatch, kill):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    folder = tmp_path / "cut"
    process = subprocess.Popen(
        [sys.executable, str(script), str(folder)], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    deadline = time.monotonic() + 120
    while not (folder / "checkpoint.zip").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (folder / "final.zip").exists()
    learners = []
    for name in ("cut", "whole"):
        monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path / name)])
        learners.append(runpy.run_path(str(script))["learner"])
    assert same(*map(weights, learners))
    cut, whole = (read_curve(tmp_path / name / "progress.csv") for name in ("cut", "whole"))
    assert cut == whole
    assert len(cut) == 8
