"""Policies that Stable-Baselines3 saved under gym 0.21."""

import base64
import importlib.util
import io
import json
import zipfile

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import SAC, TD3

from agents.imujoco import load_published_sac
from aime_gym.ids import check_env_id

BODY = "hopper-massdec_25_leggeom"
# A pickle that calls gym.spaces.box.Box, which cannot be imported, and one that writes a file.
GYM_SPACE = b"cgym.spaces.box\nBox\n(tR."


def bomb(path):
    return b"cbuiltins\nopen\n(V" + str(path).encode() + b"\nVw\ntR."


@pytest.fixture
def model():
    return SAC("MlpPolicy", f"iMuJoCo/{BODY}", buffer_size=1, seed=0)


@pytest.fixture
def published(model, tmp_path):
    """A zip file as gym 0.21 left it, whose pickles do harm."""
    model.save(tmp_path / "own.zip")
    target = tmp_path / f"sac-{BODY}.zip"
    pickles = {"observation_space": GYM_SPACE, "lr_schedule": bomb(tmp_path / "harm")}
    data = {
        name: {":type:": "<class 'abc.ABCMeta'>", ":serialized:": base64.b64encode(raw).decode()}
        for name, raw in pickles.items()
    }
    with zipfile.ZipFile(tmp_path / "own.zip") as own, zipfile.ZipFile(target, "w") as copy:
        for name in own.namelist():
            content = json.dumps(data).encode() if name == "data" else own.read(name)
            copy.writestr(name, content)
    return target


def with_weights(path, content):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("policy.pth", content)
    return path


def saved(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def test_it_acts_as_tanh_of_mu_without_gym(published, model, tmp_path):
    assert importlib.util.find_spec("gym") is None
    policy = load_published_sac(published)
    observations = np.random.default_rng(0).normal(size=(20, 11)).astype(np.float32)
    actions, _ = policy.predict(observations, deterministic=True)
    actor = model.actor
    with torch.no_grad():
        mu = actor.mu(actor.latent_pi(torch.from_numpy(observations)))
    assert actions == pytest.approx(torch.tanh(mu).numpy(), abs=1e-6)
    assert np.abs(actions).max() <= 1
    assert not (tmp_path / "harm").exists()


def test_the_pickles_of_the_test_do_harm(tmp_path):
    import pickle

    pickle.loads(bomb(tmp_path / "harm"))
    assert (tmp_path / "harm").exists()
    with pytest.raises(ModuleNotFoundError, match="gym"):
        pickle.loads(GYM_SPACE)


def test_an_environment_or_its_id(published):
    base = load_published_sac(published, "iMuJoCo/hopper")
    env = gym.make(check_env_id("iMuJoCo/hopper-massinc_40_footgeom"))
    own = load_published_sac(published, env)
    observation, _ = env.reset(seed=0)
    assert base.predict(observation, deterministic=True)[0] == pytest.approx(
        own.predict(observation, deterministic=True)[0]
    )
    assert base.observation_space == gym.make("iMuJoCo/hopper").observation_space


def test_networks_of_another_width(tmp_path):
    narrow = SAC(
        "MlpPolicy", "iMuJoCo/hopper", buffer_size=1, policy_kwargs={"net_arch": [32, 16, 8]}
    )
    narrow.save(tmp_path / "sac-hopper.zip")
    policy = load_published_sac(tmp_path / "sac-hopper.zip")
    observation = np.zeros(11, np.float32)
    expected, _ = narrow.predict(observation, deterministic=True)
    assert policy.predict(observation, deterministic=True)[0] == pytest.approx(expected)


# What is wrong


def test_another_body(published):
    with pytest.raises(ValueError, match="sees 11 values and has 3 actions"):
        load_published_sac(published, "iMuJoCo/walker2d")


def test_a_name_without_a_variant(published, tmp_path):
    unnamed = published.rename(tmp_path / "policy.zip")
    with pytest.raises(ValueError, match="no variant 'policy'"):
        load_published_sac(unnamed)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_published_sac(tmp_path / "nowhere.zip")


def test_no_policy(tmp_path, published):
    path = tmp_path / "sac-hopper.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ValueError, match=r"no policy of Stable-Baselines3: it has no policy\.pth"):
        load_published_sac(path)
    path.write_bytes(published.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"is damaged|no policy\.pth"):
        load_published_sac(path)
    path.write_bytes(b"no zip")
    with pytest.raises(ValueError, match="is damaged"):
        load_published_sac(path)


def test_a_policy_of_another_algorithm(tmp_path):
    TD3("MlpPolicy", "iMuJoCo/hopper", buffer_size=1).save(tmp_path / "sac-hopper.zip")
    with pytest.raises(ValueError, match="no policy of Stable-Baselines3's SAC"):
        load_published_sac(tmp_path / "sac-hopper.zip")
    with pytest.raises(ValueError, match="no policy of Stable-Baselines3's SAC"):
        load_published_sac(with_weights(tmp_path / "sac-hopper.zip", saved([1, 2])))


def test_more_than_weights(tmp_path):
    class Harm:
        def __reduce__(self):
            return open, (str(tmp_path / "harm"), "w")

    path = with_weights(tmp_path / "sac-hopper.zip", saved({"actor.mu.bias": Harm()}))
    with pytest.raises(ValueError, match="more than weights"):
        load_published_sac(path)
    assert not (tmp_path / "harm").exists()
