"""The environments of all bodies."""

import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_of_sb3

import aime_gym  # noqa: F401
from aime_gym.envs.imujoco.builder import base_file, write_xml
from aime_gym.imujoco_ids import ROBOTS, catalogue

GYMNASIUM = {"hopper": "Hopper-v5", "halfcheetah": "HalfCheetah-v5", "walker2d": "Walker2d-v5"}
VARIANT = "hopper-lengthinc_50_leggeom"


def run(env_id, steps):
    """Random actions; whatever is observed is finite."""
    with gym.make(env_id) as env:
        robot = ROBOTS[env_id.partition("/")[2].partition("-")[0]]
        assert env.observation_space.shape == (robot.observation_size,)
        assert env.action_space.shape == (robot.action_size,)
        env.reset(seed=0)
        env.action_space.seed(0)
        for _ in range(steps):
            observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            assert np.isfinite(observation).all()
            assert np.isfinite(reward)
            if terminated or truncated:
                env.reset()


def check(env_id):
    """Both checkers, without a warning but of observations without limits."""
    env = gym.make(env_id).unwrapped
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(env, skip_render_check=True, skip_close_check=True)
        check_env_of_sb3(env)
    assert not [w for w in caught if "Box observation space m" not in str(w.message)]


SOME = [entry.env_id for entry in catalogue().values()][::20]


@pytest.mark.parametrize("robot", ROBOTS)
def test_every_body_moves(robot):
    for entry in catalogue().values():
        if entry.robot == robot:
            run(entry.env_id, 25)


@pytest.mark.parametrize("env_id", SOME)
def test_checkers(env_id):
    check(env_id)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(catalogue()))
def test_every_body_moves_for_a_whole_episode_and_passes_the_checkers(name):
    run(f"iMuJoCo/{name}", 1_000)
    check(f"iMuJoCo/{name}")


@pytest.mark.parametrize("robot", ROBOTS)
def test_base_bodies_move_as_gymnasiums(robot, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a warning about settotalmass there.
    options = {} if robot == "halfcheetah" else {"xml_file": str(base_file(robot))}
    file = write_xml(robot, tmp_path / "base.xml")
    envs = [
        gym.make(GYMNASIUM[robot], **options),
        gym.make(f"iMuJoCo/{robot}"),
        gym.make(f"iMuJoCo/{robot}", xml_file=str(file)),
    ]
    starts = [env.reset(seed=3)[0] for env in envs]
    assert np.abs(np.array(starts) - starts[0]).max() < 1e-12
    random = np.random.default_rng(0)
    for _ in range(50):
        action = random.uniform(-1, 1, envs[0].action_space.shape).astype(np.float32)
        steps = [env.step(action) for env in envs]
        states = np.array([[*env.unwrapped.data.qpos, *env.unwrapped.data.qvel] for env in envs])
        assert np.abs(states - states[0]).max() < 1e-6
        assert [step[1] for step in steps] == pytest.approx([steps[0][1]] * 3, abs=1e-6)
        if steps[0][2]:
            break


def test_feet_are_on_the_ground_at_reset():
    with gym.make(f"iMuJoCo/{VARIANT}") as env:
        _, info = env.reset(seed=0)
        assert env.unwrapped.data.qpos[1] == pytest.approx(1.25 + 0.25, abs=0.01)
        assert env.unwrapped.data.body("torso").xpos[2] == pytest.approx(1.5, abs=0.01)
        assert abs(info["z_distance_from_origin"]) < 0.01


def test_any_variant_by_its_name():
    with gym.make("iMuJoCo/hopper", variant="hopper-massinc_37_leggeom") as env:
        base = gym.make("iMuJoCo/hopper").unwrapped.model
        ratio = env.unwrapped.model.body_mass[1:] / base.body_mass[1:]
        assert ratio == pytest.approx([1, 1, 1.37, 1])


def test_copies_are_of_the_same_body():
    env = gym.make(f"iMuJoCo/{VARIANT}")
    copy = pickle.loads(pickle.dumps(env.unwrapped))
    assert np.array_equal(copy.model.geom_size, env.unwrapped.model.geom_size)
    spec = EnvSpec.from_json(env.spec.to_json())
    assert np.array_equal(gym.make(spec).unwrapped.model.qpos0, env.unwrapped.model.qpos0)


def test_files_of_others(tmp_path):
    path = write_xml("walker2d-massinc_100_leggeom", tmp_path / "mine.xml")
    with gym.make("iMuJoCo/walker2d", xml_file=str(path)) as env:
        model = gym.make("iMuJoCo/walker2d-massinc_100_leggeom").unwrapped.model
        assert env.unwrapped.model.body_mass == pytest.approx(model.body_mass)


@pytest.mark.usefixtures("opengl")
def test_pictures(monkeypatch):
    from aime_gym.opengl import make_gl_context

    context, backend = make_gl_context(8, 8)
    context.free()
    monkeypatch.setenv("MUJOCO_GL", backend)
    with gym.make(f"iMuJoCo/{VARIANT}", render_mode="rgb_array", width=600, height=500) as env:
        env.reset(seed=0)
        assert env.render().shape == (500, 600, 3)


# What is wrong


def test_a_file_in_global_coordinates(tmp_path):
    path = tmp_path / "hopper-massdec_25_leggeom.xml"
    path.write_text('<mujoco><compiler coordinate="global"/><worldbody/></mujoco>')
    with pytest.raises(ValueError, match=r"2\.3\.3.*mj_saveLastXML.*imujoco build hopper-massdec"):
        gym.make("iMuJoCo/hopper", xml_file=str(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no xml", "is no XML file"),
        ("<mujoco><worldbody><geom/></worldbody></mujoco>", "cannot read"),
        ("<mujoco/>", "is no hopper"),
        (None, "is no hopper: a hopper has 12 positions and velocities and 3 motors"),
    ],
)
def test_files_that_are_no_hopper(tmp_path, content, message):
    path = tmp_path / "hopper.xml"
    path.write_text(content) if content else write_xml("walker2d", path)
    with pytest.raises(ValueError, match=message):
        gym.make("iMuJoCo/hopper", xml_file=str(path))


def test_no_file():
    with pytest.raises(FileNotFoundError, match="nowhere"):
        gym.make("iMuJoCo/hopper", xml_file="nowhere.xml")


def test_a_variant_of_another_robot():
    with pytest.raises(ValueError, match="a variant of walker2d"):
        gym.make("iMuJoCo/hopper", variant="walker2d-massinc_100_leggeom")


def test_a_variant_and_a_file():
    with pytest.raises(ValueError, match="not both"):
        gym.make("iMuJoCo/hopper", variant=VARIANT, xml_file="some.xml")
