"""Archives: whole or absent, never pickled; published folders and models load."""

import errno
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from agents import (
    AIMEAgent,
    BCAgent,
    WorldModel,
    WorldModelConfig,
    list_models,
    load_pretrained_model,
)
from agents.world_models.network import WorldModelNet
from agents.world_models.published import published_env_id

GOLDEN = Path(__file__).parents[1] / "golden"
FOLDERS = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())
SMALL = {"width": 4}


@pytest.fixture(params=["world model", "aime", "bc", "stacked bc"])
def learner(request, make_model, make_aime, make_bc, pendulum):
    make = {
        "world model": lambda: make_model("lpomdp", cell="rssmo"),
        "aime": make_aime,
        "bc": make_bc,
        "stacked bc": lambda: make_bc("lpomdp"),
    }[request.param]
    return make().learn(pendulum, 3)


def load(learner, path, **kwargs):
    return type(learner).load(path, device="cpu", **kwargs)


def test_all_weights_return(learner, tmp_path, weights, same):
    learner.save(tmp_path / "deep" / "learner.zip")
    again = load(learner, tmp_path / "deep" / "learner.zip")
    assert same(weights(learner), weights(again))
    assert again.env_info == learner.env_info
    assert again.num_timesteps == 3
    assert again.seed == learner.seed
    assert again.arguments == learner.arguments


@pytest.mark.parametrize("name", ["learner", "learner.zip"])
def test_the_ending_may_be_left_out(learner, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    learner.save(name)
    assert [path.name for path in tmp_path.iterdir()] == ["learner.zip"]
    for path in (name, tmp_path / name, "./learner"):
        assert load(learner, path).num_timesteps == 3


def test_loaded_agents_act_alike(make_aime, make_bc, pendulum, tmp_path):
    for agent in (make_aime("lpomdp"), make_bc("lpomdp", batch_size=20)):
        agent.learn(pendulum, 3).save(tmp_path / "agent")
        again = load(agent, tmp_path / "agent")
        for deterministic in (True, False):
            expected, _ = agent.predict(np.ones((2, 2), np.float32), deterministic=deterministic)
            actual, _ = again.predict(np.ones((2, 2), np.float32), deterministic=deterministic)
            np.testing.assert_array_equal(actual, expected)


def test_a_compact_archive_is_small_and_acts(make_aime, make_bc, pendulum, tmp_path, weights):
    for agent in (make_aime(), make_bc(batch_size=20)):
        agent.learn(pendulum, 3)
        agent.save(tmp_path / "whole")
        agent.save(tmp_path / "compact", compact=True)
        sizes = [(tmp_path / f"{name}.zip").stat().st_size for name in ("whole", "compact")]
        assert sizes[1] < 0.6 * sizes[0]
        again = load(agent, tmp_path / "compact")
        assert again.num_timesteps == 3
        observation = np.ones((2, 3), np.float32)
        expected, _ = agent.predict(observation, deterministic=True)
        actual, _ = again.predict(observation, deterministic=True)
        assert {w.dtype for w in weights(again).values()} == {torch.float32}
        np.testing.assert_allclose(actual, expected, atol=5e-3)
        again.learn(pendulum, 2)


def test_nothing_is_pickled(learner, tmp_path):
    learner.save(tmp_path / "learner.zip")
    with zipfile.ZipFile(tmp_path / "learner.zip") as archive:
        assert set(archive.namelist()) == {
            "config.json", "weights.safetensors", "counters.json", "training.safetensors"
        }  # fmt: skip
        for name in archive.namelist():
            content = archive.read(name)
            if name.endswith(".json"):
                json.loads(content)
            else:
                size = int.from_bytes(content[:8], "little")
                json.loads(content[8 : 8 + size])


# Damage


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_archive_is_refused(learner, tmp_path, share):
    path = tmp_path / "learner.zip"
    learner.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"learner\.zip is truncated, or no archive of aime-gym"):
        load(learner, path)


def test_a_damaged_archive_is_refused(learner, tmp_path):
    path = tmp_path / "learner.zip"
    learner.save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is truncated, or no archive"):
        load(learner, path)


@pytest.mark.parametrize(
    "files",
    [
        {"data": "{}", "policy.pth": ""},
        {"config.json": "[]"},
        {"config.json": "{}", "weights.safetensors": ""},
        {"config.json": "{", "weights.safetensors": ""},
        {"config.json": '{"kind": "BCAgent", "config": {}}', "weights.safetensors": "nonsense"},
    ],
    ids=str,
)
def test_a_foreign_archive_is_refused(tmp_path, files):
    with zipfile.ZipFile(tmp_path / "foreign.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    for kind in (WorldModel, AIMEAgent, BCAgent):
        with pytest.raises(ValueError, match="no archive of aime-gym"):
            kind.load(tmp_path / "foreign.zip")


def test_another_kind_of_agent_is_refused(learner, tmp_path):
    learner.save(tmp_path / "learner.zip")
    for kind in {WorldModel, AIMEAgent, BCAgent} - {type(learner)}:
        with pytest.raises(ValueError, match=f"{type(learner).__name__}, not {kind.__name__}"):
            kind.load(tmp_path / "learner.zip")


def test_a_later_format_is_refused(make_bc, tmp_path):
    make_bc().save(tmp_path / "old.zip")
    with (
        zipfile.ZipFile(tmp_path / "old.zip") as old,
        zipfile.ZipFile(tmp_path / "new.zip", "w") as new,
    ):
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                content = json.dumps({**json.loads(content), "format": 99})
            new.writestr(name, content)
    with pytest.raises(ValueError, match="newer format"):
        BCAgent.load(tmp_path / "new.zip")


def test_there_is_no_such_archive(tmp_path):
    for kind in (AIMEAgent, BCAgent, WorldModel):
        with pytest.raises(FileNotFoundError, match="nothing"):
            kind.load(tmp_path / "nothing.zip")


def test_an_environment_that_does_not_fit_is_refused(learner, tmp_path):
    learner.save(tmp_path / "learner.zip")
    with pytest.raises(ValueError, match="does not fit"):
        load(learner, tmp_path / "learner.zip", env="AIME/cartpole-balance-mdp")
    env_id = learner.env_info.env_id
    assert load(learner, tmp_path / "learner.zip", env=env_id).get_env().num_envs == 1


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_whole(learner, tmp_path, monkeypatch, pendulum, call):
    path = tmp_path / "learner.zip"
    learner.save(path)
    before = path.read_bytes()
    learner.learn(pendulum, 1, reset_num_timesteps=False)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(OSError, match="No space left"):
            learner.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["learner.zip"]
    learner.save(path)
    assert load(learner, path).num_timesteps == 4


# Published models


@pytest.mark.parametrize("name", FOLDERS)
def test_published_world_models_load_and_are_saved_as_ours(name, tmp_path, weights, same):
    model = load_pretrained_model(GOLDEN / name, device="cpu")
    model.save(tmp_path / "model.zip")
    again = WorldModel.load(tmp_path / "model.zip", device="cpu")
    assert same(weights(model), weights(again))
    assert again.net.info == model.net.info
    assert list(again.net.info.visible) == list(model.net.info.visible)
    assert again.config == model.config


@pytest.mark.parametrize("name", FOLDERS)
def test_published_agents_load_and_act(name, tmp_path):
    agent = AIMEAgent.load(GOLDEN / name, device="cpu")
    observation = np.ones((2, *agent.observation_space.shape), agent.observation_space.dtype)
    actions, _ = agent.predict(observation, deterministic=True)
    assert actions.shape == (2, 6)
    agent.save(tmp_path / "agent")
    again = AIMEAgent.load(tmp_path / "agent", device="cpu")
    np.testing.assert_array_equal(again.predict(observation, deterministic=True)[0], actions)
    assert agent.env_info.body == "walker"


@pytest.fixture
def published(tmp_path):
    folder = tmp_path / "published"
    shutil.copytree(GOLDEN / "rssm-lpomdp", folder)
    return folder


def change(folder, function, name="model.pt"):
    state = torch.load(folder / name, weights_only=True)
    torch.save(function(state), folder / name)


def without(prefix):
    return lambda state: {n: w for n, w in state.items() if not n.startswith(prefix)}


@pytest.mark.parametrize("prefix", ["idm.", "decoders.reward."])
def test_heads_may_be_missing(published, prefix):
    change(published, without(prefix))
    model = load_pretrained_model(published)
    assert (model.net.idm is None) == (prefix == "idm.")
    AIMEAgent.load(published)


def test_heads_may_be_too_many(published):
    heads = torch.load(GOLDEN / "rssm-mdp" / "model.pt", weights_only=True)
    assert any(name.startswith("emb_prediction_heads.") for name in heads)
    config = (published / "config.yaml").read_text()
    assert "detach" in config
    (published / "config.yaml").write_text(config.replace("detach", "none"))
    load_pretrained_model(published)


@pytest.mark.parametrize(
    "prefix", ["memory_cell.weight_hh", "prior_mean.net.2", "decoders.height", "probes.velocity"]
)
def test_other_weights_may_not_be_missing(published, prefix):
    change(published, without(prefix))
    with pytest.raises(ValueError, match=prefix.split(".")[0]):
        load_pretrained_model(published)


def test_foreign_weights_are_refused(published):
    change(published, lambda state: {**state, "extra.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"unknown extra\.weight"):
        load_pretrained_model(published)


def test_weights_of_another_shape_are_refused(published):
    name = "prior_mean.net.0.weight"
    change(published, lambda state: {**state, name: state[name][:, :-1]})
    with pytest.raises(ValueError, match=r"of another shape .*prior_mean"):
        load_pretrained_model(published)


@pytest.mark.parametrize("name", ["model.pt", "policy.pt"])
def test_truncated_weights_are_refused(published, name):
    path = published / name
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=f"{name} is truncated"):
        AIMEAgent.load(published)


def test_code_in_a_published_file_is_not_run(published, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "evil"),)

    torch.save({"a": Evil()}, published / "model.pt")
    with pytest.raises(ValueError, match=r"model\.pt"):
        load_pretrained_model(published)
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("content", ["", "[]", "a: [", "world_model: {}"])
def test_a_damaged_configuration_is_refused(published, content):
    (published / "config.yaml").write_text(content)
    with pytest.raises(ValueError, match=r"damaged|no world model"):
        load_pretrained_model(published)


@pytest.mark.parametrize("task", [None, "${env.tasks.0}"])
def test_a_task_without_a_name_is_that_of_the_environment(published, task):
    config = yaml.safe_load((published / "config.yaml").read_text())
    config["env"] |= {"task": task, "name": "walker-run"}
    (published / "config.yaml").write_text(yaml.safe_dump(config))
    assert published_env_id(published) == "AIME/walker-run-lpomdp"
    del config["env"]["name"]
    (published / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ValueError, match="does not name its task"):
        published_env_id(published)


def test_no_published_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no config\.yaml"):
        load_pretrained_model(tmp_path)
    (tmp_path / "config.yaml").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"model\.pt"):
        load_pretrained_model(tmp_path)


def test_the_order_of_the_sensors_is_the_models_own(published, tmp_path):
    config = yaml.safe_load((published / "config.yaml").read_text())
    sensors = config["env"]["sensors"]
    config["env"]["sensors"] = dict(reversed(sensors.items()))
    (published / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    model = load_pretrained_model(published)
    usual = load_pretrained_model(GOLDEN / "rssm-lpomdp")
    assert list(model.net.info.visible) == list(usual.net.info.visible)[::-1]
    model.save(tmp_path / "model.zip")
    again = WorldModel.load(tmp_path / "model.zip")
    assert list(again.net.info.visible) == list(model.net.info.visible)


WALKER = {"orientations": 14, "height": 1, "velocity": 9}
CHEETAH = {"position": 8, "velocity": 9}


@pytest.mark.parametrize(
    ("body", "setup", "number"),
    [
        ("walker", "mdp", 2_198_588),
        ("walker", "lpomdp", 2_094_259),
        ("walker", "visual", 7_317_351),
        ("cheetah", "mdp", 5_426_837),
        ("cheetah", "lpomdp", 5_422_229),
        ("cheetah", "visual", 10_744_536),
    ],
)
def test_parameter_counts_are_the_published_ones(make_info, body, setup, number):
    sensors = {"walker": WALKER, "cheetah": CHEETAH}[body]
    visible = {"mdp": sensors, "lpomdp": without("velocity")(sensors), "visual": {}}[setup]
    hidden = {name: size for name, size in sensors.items() if name not in visible}
    with torch.device("meta"):
        net = WorldModelNet(
            make_info(visible, hidden, 6, body, setup), WorldModelConfig.paper(body)
        )
    assert sum(weight.numel() for weight in net.parameters()) == number


# Names


def test_models_are_found_by_name(make_model, places):
    model = make_model()
    model.save(places / "models" / "swing" / "model.zip")
    shutil.copytree(GOLDEN / "rssm-mdp", places / "models" / "aime" / "walker-tiny")
    assert {"swing", "aime/walker-tiny"} <= set(list_models())
    assert WorldModel.load("swing").env_info == model.env_info
    assert WorldModel.load("aime/walker-tiny").env_info.body == "walker"


def test_an_unknown_name_lists_what_there_is(make_model, places):
    make_model().save(places / "models" / "swing" / "model.zip")
    with pytest.raises(FileNotFoundError, match=r"no model 'walk'.*swing.*AIME_GYM_MODELS"):
        WorldModel.load("walk")
    with pytest.raises(FileNotFoundError, match="swing"):
        AIMEAgent("AIME/pendulum-swingup-mdp", "walk")


def test_folders_of_models_count_once_and_may_start_at_home(make_model, places, monkeypatch):
    make_model().save(places / "models" / "swing" / "model.zip")
    monkeypatch.setenv("HOME", str(places))
    monkeypatch.setenv("AIME_GYM_MODELS", os.pathsep.join(["~/models", f"{places}/models/", ""]))
    assert list(list_models()).count("swing") == 1
    assert WorldModel.load("swing").env_info.body == "pendulum"


def test_a_name_found_twice_is_an_error(make_model, places, monkeypatch):
    for folder in ("one", "two"):
        make_model().save(places / folder / "swing" / "model.zip")
    monkeypatch.setenv("AIME_GYM_MODELS", f"{places / 'one'}{os.pathsep}{places / 'two'}")
    with pytest.raises(ValueError, match=r"(?s)several models 'swing'.*one.*two"):
        WorldModel.load("swing")
