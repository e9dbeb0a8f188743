"""MiniGrid, fully observed: the engine plays exactly as MiniGrid does."""

from __future__ import annotations

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from minigrid.core.grid import Grid
from minigrid.core.mission import MissionSpace
from minigrid.core.world_object import Ball, Box, Goal, Key
from minigrid.minigrid_env import MiniGridEnv
from minigrid.wrappers import FullyObsWrapper
from stable_baselines3.common.env_checker import check_env as check_env_of_sb3

import aime_gym
from aime_gym import grid_ids
from aime_gym.envs.minigrid.engine import GridEngine
from aime_gym.envs.minigrid.separate import SeparateGrids
from aime_gym.ids import body_of, check_env_id, task_name
from aime_gym.rollout import make_envs

FURTHER = ("MiniGrid-LavaCrossingS9N1-v0", "MiniGrid-MultiRoom-N2-S4-v0", "MiniGrid-FourRooms-v0")
COVERED = (*grid_ids.KNOWN, *FURTHER)
LIVELY = np.array([0.15, 0.15, 0.35, 0.12, 0.08, 0.13, 0.02])  # Probabilities of the actions.
pytestmark = pytest.mark.filterwarnings("ignore:.*is out of date")


def make_vec(env_id: str, num_envs: int, **options):
    return gym.make_vec(check_env_id(env_id), num_envs=num_envs, **options).unwrapped


class Played:
    """One of MiniGrid's environments with MiniGrid's own wrapper, which restarts by itself."""

    def __init__(self, env_id: str, seed: int) -> None:
        grid_ids.import_minigrid()
        self.env = FullyObsWrapper(gym.make(env_id, disable_env_checker=True))
        self.last = self.row(self.env.reset(seed=seed)[0])

    def row(self, observation) -> np.ndarray:
        thing = self.env.unwrapped.carrying
        carried = (1, 5) if thing is None else thing.encode()[:2]
        return np.array([*observation["image"].ravel(), *carried])

    def step(self, action: int):
        observation, reward, terminated, truncated, _ = self.env.step(action)
        self.final = self.last = self.row(observation)
        if terminated or truncated:
            self.last = self.row(self.env.reset()[0])
        return reward, terminated, truncated


def assert_equal_play(env_id: str, num_envs: int, steps: int, seed: int) -> int:
    """Plays both side by side; returns how many episodes ended."""
    envs = make_vec(f"FullGrid/{env_id}", num_envs, engine=True, autoreset_mode="SameStep")
    played = [Played(env_id, seed + index) for index in range(num_envs)]
    shown, _ = envs.reset(seed=seed)
    np.testing.assert_array_equal(shown, [one.last for one in played])
    actions = np.random.default_rng(seed).choice(7, (steps, num_envs), p=LIVELY)
    ended = 0
    for row in actions:
        shown, *outcomes, info = envs.step(row)
        expected = [one.step(action) for one, action in zip(played, row, strict=True)]
        np.testing.assert_array_equal(np.stack(outcomes, 1), expected)
        np.testing.assert_array_equal(shown, [one.last for one in played])
        for index in np.flatnonzero(outcomes[1] | outcomes[2]):
            np.testing.assert_array_equal(info["final_obs"][index], played[index].final)
            ended += 1
    return ended


@pytest.mark.parametrize("env_id", COVERED)
def test_engine_plays_as_minigrid_does(env_id):
    assert_equal_play(env_id, num_envs=2, steps=60, seed=11)


@pytest.mark.slow
def test_engine_plays_as_minigrid_does_for_a_million_steps():
    steps = -(-1_000_000 // (4 * len(COVERED)))
    ended = [assert_equal_play(env_id, num_envs=4, steps=steps, seed=5) for env_id in COVERED]
    assert min(ended) > 0


@pytest.mark.parametrize("name", ["Empty-5x5", "DoorKey-5x5", "KeyCorridorS3R1", "LavaGapS5"])
def test_engine_ends_and_pays_as_minigrid_does(name):
    """The first episode that the rules end, found in the engine, ends in MiniGrid just so."""
    env_id, drawn = f"MiniGrid-{name}-v0", np.random.default_rng(0)
    envs = make_vec(env_id, 512, autoreset_mode="Disabled")
    start, _ = envs.reset(seed=100)
    actions: list[np.ndarray] = []
    terminated = np.zeros(512, dtype=bool)
    while not terminated.any():
        actions.append(drawn.choice(7, 512, p=LIVELY))
        shown, rewards, terminated, truncated, _ = envs.step(actions[-1])
        assert not truncated.any(), "No episode was ended by the rules."
    index = int(np.flatnonzero(terminated)[0])
    one = Played(env_id, 100 + index)
    np.testing.assert_array_equal(one.last, start[index])
    outcomes = [one.step(row[index]) for row in actions]
    assert outcomes[-1] == (rewards[index], True, False)
    assert (rewards[index] > 0) == (name != "LavaGapS5")
    assert not any(ended for _, ended, _ in outcomes[:-1])
    np.testing.assert_array_equal(one.final, shown[index])


class Toys(MiniGridEnv):
    """A room with a key, a ball, a box with a key in it, and a goal."""

    def __init__(self, size: int = 6, **kwargs) -> None:
        mission = MissionSpace(lambda: "look around")
        super().__init__(mission, grid_size=size, max_steps=40, **kwargs)

    def _gen_grid(self, width, height):
        self.grid = Grid(width, height)
        self.grid.wall_rect(0, 0, width, height)
        self.put_obj(Goal(), width - 2, height - 2)
        for thing in (Key("red"), Ball("grey"), Box("green", contains=Key("blue"))):
            self.place_obj(thing)
        self.place_agent()
        self.mission = "look around"


class Heavy(Ball):
    def can_pickup(self):
        return False


class HeavyToys(Toys):
    def _gen_grid(self, width, height):
        super()._gen_grid(width, height)
        self.place_obj(Heavy("red"))


class StickyToys(Toys):
    def step(self, action):
        return super().step(action if self.np_random.random() < 0.7 else 6)


class GenerousToys(Toys):
    def _reward(self):
        return 1.0


@pytest.fixture(autouse=True)
def toys():
    for kind in (Toys, HeavyToys, StickyToys, GenerousToys):
        name = f"Test{kind.__name__}-v0"
        if name not in gym.registry:
            gym.register(name, entry_point=kind)


def test_engine_plays_ones_own_environment():
    assert assert_equal_play("TestToys-v0", num_envs=4, steps=300, seed=0) > 4


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("TestHeavyToys-v0", "objects of its own: Heavy"),
        ("TestStickyToys-v0", "takes steps of its own"),
        ("TestGenerousToys-v0", "has a _reward of its own"),
        ("MiniGrid-Dynamic-Obstacles-6x6-v0", "takes steps of its own"),
    ],
)
def test_what_the_engine_does_not_cover_is_left_to_minigrid(name, reason):
    assert isinstance(make_vec(f"FullGrid/{name}", 2), SeparateGrids)
    with pytest.raises(ValueError, match=reason):
        make_vec(f"FullGrid/{name}", 2, engine=True)


@pytest.mark.parametrize("engine", [True, False])
@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_vector_equals_single_environments(engine, mode):
    """Seeds, spaces and restarts are those of Gymnasium's own vector of single environments."""
    name = check_env_id("MiniGrid-Empty-Random-5x5-v0")
    envs = make_vec(name, 3, engine=engine, autoreset_mode=mode, max_steps=9)
    mode_value = gym.vector.AutoresetMode(mode)
    singles = gym.vector.SyncVectorEnv(
        [lambda: gym.make(name, max_steps=9)] * 3, autoreset_mode=mode_value
    )
    assert envs.metadata["autoreset_mode"] == mode_value
    assert envs.observation_space == singles.observation_space
    assert envs.single_action_space == singles.single_action_space
    np.testing.assert_array_equal(envs.reset(seed=3)[0], singles.reset(seed=3)[0])
    for row in np.random.default_rng(0).choice(7, (60, 3), p=LIVELY):
        got, expected = envs.step(row), singles.step(row)
        for one, other in zip(got[:4], expected[:4], strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(got[4]["step_count"], expected[4]["step_count"])
        assert ("final_obs" in got[4]) == ("final_obs" in expected[4])


@pytest.mark.parametrize("name", ["MiniGrid-DoorKey-5x5-v0", "FullGrid/TestStickyToys-v0"])
def test_state_is_all_that_comes_depends_on(name):
    actions = np.random.default_rng(0).choice(7, (260, 3), p=LIVELY)
    options = {"autoreset_mode": "SameStep"}
    envs = make_vec(name, 3, **options)
    envs.reset(seed=1)
    for row in actions[:30]:
        envs.step(row)
    other = make_vec(name, 3, **options)
    other.reset(seed=50)
    other.set_state(envs.get_state())
    np.testing.assert_array_equal(other.observe(), envs.observe())
    for row in actions[30:]:
        for one, two in zip(envs.step(row)[:4], other.step(row)[:4], strict=True):
            np.testing.assert_array_equal(one, two)


def test_only_masked_environments_start_anew():
    envs = make_vec("MiniGrid-DoorKey-5x5-v0", 3, autoreset_mode="Disabled")
    envs.reset(seed=0)
    before = envs.step(np.array([0, 0, 0]))[0]
    after, info = envs.reset(options={"reset_mask": np.array([False, True, False])})
    np.testing.assert_array_equal(info["step_count"], [1, 0, 1])
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    assert (after[1] != before[1]).any()
    shown = envs.restart(np.array([True, False, False]))
    np.testing.assert_array_equal(shown[1:], after[1:])


@pytest.mark.parametrize("engine", [True, False])
def test_layout_seed_gives_one_layout(engine):
    shown, _ = make_vec("MiniGrid-DoorKey-6x6-v0", 4, engine=engine, layout_seed=9).reset(seed=0)
    assert (shown == shown[0]).all()
    single = gym.make(check_env_id("MiniGrid-DoorKey-6x6-v0"), layout_seed=9)
    np.testing.assert_array_equal(single.reset(seed=1)[0], shown[0])
    fresh, _ = make_vec("MiniGrid-DoorKey-6x6-v0", 4, engine=engine).reset(seed=0)
    assert (fresh != fresh[0]).any()


def test_observation_is_the_grid_and_what_is_carried():
    env = gym.make("FullGrid/TestToys-v0").unwrapped
    shown, info = env.reset(seed=0)
    grid = shown[env.sensors["grid"].slice].reshape(*env.grid_shape, 3)
    x, y = env.inner.agent_pos
    assert grid[x, y].tolist() == [10, 0, env.inner.agent_dir]
    assert grid[4, 4].tolist() == [8, 1, 0]
    assert shown[env.sensors["carried"].slice].tolist() == [1, 5]
    assert info == {"step_count": 0}
    env.inner.carrying = Key("red")
    assert env.step(np.int64(0))[0][-2:].tolist() == [5, 0]


@pytest.mark.parametrize("name", ["FullGrid/MiniGrid-DoorKey-6x6-v0", "FullGrid/TestToys-v0"])
def test_checkers(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_env(gym.make(name).unwrapped, skip_render_check=True)
        check_env_of_sb3(gym.make(name).unwrapped)


def test_ids_of_minigrid_stand_for_the_whole_grid():
    assert check_env_id("MiniGrid-DoorKey-8x8-v0") == "FullGrid/MiniGrid-DoorKey-8x8-v0"
    assert check_env_id("aime_gym:BabyAI-GoToRedBall-v0") == "FullGrid/BabyAI-GoToRedBall-v0"
    assert check_env_id("FullGrid/TestToys-v0") == "FullGrid/TestToys-v0"
    assert body_of("MiniGrid-DoorKey-8x8-v0") == "MiniGrid-DoorKey-8x8"
    assert task_name("MiniGrid-DoorKey-8x8-v0") == "MiniGrid-DoorKey-8x8-v0"
    assert not [name for name in aime_gym.list_environments() if "Grid" in name]
    with pytest.raises(ValueError, match="did you mean 'MiniGrid-DoorKey-8x8-v0'"):
        check_env_id("MiniGrid-DoorKey-88-v0")
    assert isinstance(make_envs("MiniGrid-DoorKey-8x8-v0", 2).unwrapped, GridEngine)


def test_bad_input():
    with pytest.raises(TypeError, match="CartPole-v1 is no MiniGrid environment"):
        gym.make(check_env_id("FullGrid/CartPole-v1"))
    with pytest.raises(ValueError, match="num_envs is at least 1; got 0"):
        make_vec("MiniGrid-DoorKey-5x5-v0", 0)
    envs = make_vec("MiniGrid-DoorKey-5x5-v0", 2, autoreset_mode="Disabled")
    with pytest.raises(RuntimeError, match=r"no episode is running in \[0, 1\]"):
        envs.step(np.array([0, 0]))
    with pytest.raises(ValueError, match="but 3 seeds"):
        envs.reset(seed=[1, 2, 3])
    with pytest.raises(ValueError, match="reset_mask"):
        envs.reset(options={"reset_mask": np.array([False, False])})
    envs.reset(seed=0)
    for actions in ([0], [0, 7], [-1, 0]):
        with pytest.raises(ValueError, match="2 integers from 0 to 6"):
            envs.step(np.array(actions))


def test_minigrid_is_optional(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "minigrid", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'aime-gym\[minigrid\]'"):
        gym.make("FullGrid/MiniGrid-DoorKey-8x8-v0")
