"""Wrong input: clear errors, before any update and with nothing written."""

import dataclasses
import shutil

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from agents import AIMEAgent, BCAgent, BCConfig, WorldModel, WorldModelConfig
from agents.runs.recipe import train
from agents.runs.recipes import BCORecipe, BCRecipe, ExpertRecipe, IIDMRecipe
from aime_gym import evaluate, save_dataset
from aime_gym.datasets import Card, Dataset, Trajectory


@pytest.fixture(params=["world model", "aime", "bc"])
def learner(request, make_model, make_aime, make_bc):
    return {"world model": make_model, "aime": make_aime, "bc": make_bc}[request.param]()


@pytest.fixture
def refuses(weights, same, tmp_path):
    """A function that checks that learning fails early."""

    def check(learner, data, message):
        before = weights(learner)
        with pytest.raises(ValueError, match=message):
            learner.learn(data, 5)
        assert learner.num_timesteps == 0
        assert same(before, weights(learner))
        assert not list(tmp_path.rglob("*.*"))

    return check


def test_a_dataset_of_another_body(learner, pendulum_data, refuses):
    refuses(learner, pendulum_data(body="walker"), "of body 'walker'; needed is 'pendulum'")


def test_missing_sensors(learner, pendulum, refuses):
    partial = pendulum.map(
        lambda t: dataclasses.replace(t, sensors={"orientation": t.sensors["orientation"]})
    )
    refuses(learner, partial, "lacks velocity; it has orientation")


def test_sensors_of_another_size(learner, pendulum, refuses):
    wide = pendulum.map(
        lambda t: dataclasses.replace(
            t, sensors={**t.sensors, "velocity": np.repeat(t.sensors["velocity"], 2, axis=1)}
        )
    )
    refuses(learner, wide, "'velocity' of dataset 'pendulum-toy' has 2 values; needed are 1")


def test_missing_actions(learner, pendulum, refuses):
    if isinstance(learner, AIMEAgent):
        assert learner.learn(pendulum.observations_only(), 1).num_timesteps == 1
        return
    refuses(learner, pendulum.observations_only(), "Actions are needed, and 3 of the 3")


def test_some_missing_actions(make_model, make_bc, pendulum, refuses):
    mixed = pendulum + pendulum[:1].observations_only()
    for learner in (make_model(), make_bc()):
        refuses(learner, mixed, "Actions are needed, and 1 of the 4")


def test_actions_of_another_size(learner, pendulum, refuses):
    wide = pendulum.map(lambda t: dataclasses.replace(t, actions=np.tile(t.actions, (1, 2))))
    if isinstance(learner, AIMEAgent):
        assert learner.learn(wide, 1).num_timesteps == 1
        return
    refuses(learner, wide, r"have 1 values; those of 'pendulum-toy' have 2")


def test_short_trajectories(make_model, make_aime, make_bc, pendulum, pendulum_data, refuses):
    short = pendulum_data(2, 4)
    for learner in (make_model(), make_aime()):
        refuses(learner, short, r"a window of 5 observations \(sequence_length,.* longest has 4")
    refuses(make_bc("lpomdp"), short, r"a window of 6 observations .*stack \+ 1.* longest has 4")


def test_some_short_trajectories(make_model, make_aime, make_bc, pendulum, pendulum_data):
    data = pendulum + pendulum_data(1, 4)
    for learner in (make_model(), make_aime(), make_bc("lpomdp")):
        with pytest.warns(UserWarning, match=r"1 of the 4 trajectories .* passed over") as told:
            learner.learn(data, 1)
        assert len(told) == 1


def test_an_exact_fit_is_no_error(make_model, make_bc, pendulum_data):
    assert make_model().learn(pendulum_data(1, 5), 1).num_timesteps == 1
    assert make_bc("lpomdp").learn(pendulum_data(1, 6), 1).num_timesteps == 1


def test_values_that_are_not_finite(pendulum):
    velocity = pendulum[0].sensors["velocity"].copy()
    velocity[3] = np.nan
    with pytest.raises(ValueError, match=r"'velocity' has 1 values that are not finite.* row 3"):
        dataclasses.replace(pendulum[0], sensors={**pendulum[0].sensors, "velocity": velocity})


@pytest.mark.parametrize("shape", [(32, 32), (84, 84)])
def test_images_of_another_size(make_model, make_bc, pendulum, refuses, shape):
    data = pendulum.map(lambda t: t.with_images(np.zeros((len(t), *shape, 3), np.uint8)))
    for learner in (make_model("visual"), make_bc("visual")):
        refuses(
            learner, data, rf"have shape \({shape[0]}, {shape[1]}, 3\); needed is \(64, 64, 3\)"
        )


def test_neither_images_nor_physics_states(make_model, make_aime, make_bc, pendulum, refuses):
    for learner in (make_model("visual"), make_aime("visual"), make_bc("visual")):
        refuses(learner, pendulum, "neither images nor physics states")


def test_hidden_sensors_are_needed_by_probes(make_model, refuses):
    images = np.zeros((6, 64, 64, 3), np.uint8)
    trajectory = Trajectory({"image": images}, actions=np.zeros((5, 1), np.float32))
    data = Dataset([trajectory], Card("seen", "pendulum"))
    refuses(make_model("visual"), data, "lacks orientation, velocity; it has image")


# Stages and runs


@pytest.fixture(params=[BCORecipe, IIDMRecipe])
def make_embodied_run(request, pendulum_data, tmp_path):
    """A function that makes a run of two stages from bad data, of which good ones are there."""
    save_dataset(pendulum_data(6, 20), tmp_path / "data" / "good")

    def make(setup="mdp", **data):
        names = {"demos": "good", "dataset": "good"}
        for name, bad in data.items():
            save_dataset(bad, tmp_path / "data" / "bad")
            names[name] = "bad"
        env_id = f"AIME/pendulum-swingup-{setup}"
        folders = {"folder": tmp_path / "run", "body_model_folder": tmp_path / "body"}
        small = {"total_timesteps": 1, "body_model_timesteps": 1, "episodes": 1}
        return request.param(env=env_id, **names, **folders, **small, device="cpu")

    return make


def runs_in(folder):
    return [path.name for path in folder.glob("*.zip")] + [p.name for p in folder.glob("*.json")]


def without_velocity(trajectory):
    sensors = {"orientation": trajectory.sensors["orientation"]}
    return dataclasses.replace(trajectory, sensors=sensors)


def test_bad_demonstrations_are_found_before_the_first_stage(
    make_embodied_run, pendulum, pendulum_data, tmp_path
):
    for bad, message in (
        (pendulum_data(body="walker"), "of body 'walker'; needed is 'pendulum'"),
        (pendulum.map(without_velocity), "lacks velocity; it has orientation"),
    ):
        with pytest.raises(ValueError, match=message):
            train(make_embodied_run(demos=bad))
        shutil.rmtree(tmp_path / "data" / "bad")
    with pytest.raises(ValueError, match="neither images nor physics states"):
        train(make_embodied_run("visual", demos=pendulum))
    assert not runs_in(tmp_path / "body")
    assert not runs_in(tmp_path / "run")


def test_demonstrations_need_neither_actions_nor_hidden_sensors(make_embodied_run, pendulum):
    demos = pendulum.map(without_velocity).observations_only()
    assert train(make_embodied_run("lpomdp", demos=demos)).num_timesteps == 1


def test_bad_experience_begins_no_run(make_embodied_run, pendulum, pendulum_data, tmp_path):
    for bad, message in (
        (pendulum_data(body="walker"), "of body 'walker'; needed is 'pendulum'"),
        (pendulum.map(without_velocity), "lacks velocity; it has orientation"),
        (pendulum.observations_only(), "Actions are needed, and 3 of the 3"),
    ):
        with pytest.raises(ValueError, match=message):
            train(make_embodied_run(dataset=bad))
        shutil.rmtree(tmp_path / "data" / "bad")
    assert not runs_in(tmp_path / "body")
    assert not runs_in(tmp_path / "run")


# Environments


@pytest.mark.parametrize("kind", [WorldModel, BCAgent])
def test_discrete_actions(kind):
    for env in ("CartPole-v1", gym.make("CartPole-v1"), DummyVecEnv([make_cart_pole])):
        with pytest.raises(TypeError, match=r"takes Box actions; .* CartPole-v1 are"):
            kind(env)


def make_cart_pole():
    return gym.make("CartPole-v1")


@pytest.mark.parametrize(
    ("observation", "action"),
    [
        (spaces.Dict({"a": spaces.Box(0, 1, (2,))}), spaces.Box(-1, 1, (1,))),
        (spaces.Tuple([spaces.Box(0, 1, (2,))]), spaces.Box(-1, 1, (1,))),
        (spaces.MultiBinary(3), spaces.Box(-1, 1, (1,))),
        (spaces.Box(0, 1, (2, 2)), spaces.Box(-1, 1, (1,))),
        (spaces.Box(0, 1, (8, 8, 3)), spaces.Box(-1, 1, (1,))),
        (spaces.Box(0, 255, (64, 64, 1), np.uint8), spaces.Box(-1, 1, (1,))),
        (spaces.Box(0, 1, (2,)), spaces.MultiDiscrete([2, 2])),
        (spaces.Box(0, 1, (2,)), spaces.Box(-np.inf, np.inf, (1,))),
    ],
    ids=str,
)
def test_spaces_that_no_agent_takes(observation, action):
    class Odd(gym.Env):
        observation_space = observation
        action_space = action

    with pytest.raises(TypeError, match=r"Box observation.*Box actions.*this environ"):
        BCAgent(Odd())


@pytest.mark.parametrize("env", [None, 3, gym.make])
def test_no_environment(env):
    with pytest.raises(TypeError, match=r"an id, a gymnasium\.Env or a VecEnv, not"):
        BCAgent(env)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("AIME/walkr-run-mdp", "no body 'walkr': did you mean 'walker'"),
        ("AIME/walker-fly-mdp", "no task 'fly': .*stand, walk, run"),
        ("AIME/walker-run-pomdp", "no setup 'pomdp': .*mdp, lpomdp, visual"),
        ("MlpPolicy", "no environment 'MlpPolicy': .*walker"),
    ],
)
def test_an_unknown_id(env, message):
    with pytest.raises(ValueError, match=message):
        BCAgent(env)


# Mistakes of those who come from Stable-Baselines3


def test_timesteps_in_place_of_demonstrations(learner):
    with pytest.raises(TypeError, match=r"learn\(demonstrations, total_timesteps\)"):
        learner.learn(1_000)


def test_a_policy_of_another_body(make_bc):
    agent = make_bc()
    for env_id in ("AIME/walker-run-mdp", "AIME/pendulum-swingup-lpomdp"):
        with pytest.raises(ValueError, match="made for another environment"):
            evaluate(agent, env_id, episodes=1)
    model = PPO("MlpPolicy", "AIME/pendulum-swingup-mdp", n_steps=8, batch_size=8)
    with pytest.raises(ValueError, match="made for another environment"):
        evaluate(model, "AIME/walker-run-mdp", episodes=1)


def test_a_world_model_in_place_of_an_agent(make_model):
    with pytest.raises(TypeError, match="WorldModel has not"):
        evaluate(make_model(), "AIME/pendulum-swingup-mdp", episodes=1)


def test_a_world_model_that_is_none(make_bc):
    with pytest.raises(TypeError, match="not BCAgent"):
        AIMEAgent("AIME/pendulum-swingup-mdp", make_bc())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stack": 0}, "stack is at least 1; got 0"),
        ({"batch_size": 0}, "batch_size is at least 1; got 0"),
        ({"num_demonstrations": -1}, "num_demonstrations is at least 1; got -1"),
        ({"train_share": 1.5}, "train_share is a share, from 0 to 1; got 1.5"),
        ({"learning_rate": 0.0}, "learning_rate is greater than 0; got 0"),
        ({"min_epochs": -1}, "min_epochs is at least 0; got -1"),
    ],
    ids=str,
)
def test_settings_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        BCConfig(**options)


@pytest.mark.parametrize("kind", [BCRecipe, ExpertRecipe])
def test_intervals_out_of_range(kind):
    required = {"demos": "d"} if kind is BCRecipe else {}
    for name in ("total_timesteps", "checkpoint_interval", "evaluation_interval"):
        with pytest.raises(ValueError, match=f"{name} is at least 1; got 0"):
            kind(env="AIME/walker-run-mdp", **required, **{name: 0})


def test_unknown_options():
    with pytest.raises(TypeError, match="unexpected keyword"):
        BCAgent("AIME/pendulum-swingup-mdp", learning_rate=1e-3)
    with pytest.raises(TypeError, match="unexpected keyword"):
        WorldModelConfig(deter=3)


def test_a_gpu_that_is_not_there(make_model, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    model = make_model()
    assert WorldModel(model.env_info, model.config, device="auto").device.type == "cpu"
    path = tmp_path / "model.zip"
    model.save(path)
    message = "PyTorch finds no GPU here: take 'auto' or 'cpu'"
    with pytest.raises(ValueError, match=message):
        WorldModel(model.env_info, model.config, device="cuda:0")
    with pytest.raises(ValueError, match=message):
        WorldModel.load(path, device="cuda")
