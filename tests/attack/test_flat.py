"""What many environments, made and closed one after another, leave behind: nothing."""

import gc
import os
import threading
from pathlib import Path

import gymnasium as gym
import pytest

import aime_gym  # noqa: F401


def in_use():
    """Memory of this process, MiB, its threads and its open files."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    memory = int(status.split("VmRSS:")[1].split()[0]) / 1024
    threads = int(status.split("Threads:")[1].split()[0])
    assert threads >= threading.active_count()
    return memory, threads, len(os.listdir("/proc/self/fd"))


def use(env_id):
    env = gym.make(env_id)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    env.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env_id", "count"), [("AIME/cartpole-balance-mdp", 500), ("AIME/cartpole-balance-visual", 300)]
)
def test_environments_that_are_made_and_closed(env_id, count):
    for _ in range(30):  # Until what is kept for good is there.
        use(env_id)
    memory, threads, files = in_use()
    for _ in range(count):
        use(env_id)
    after = in_use()
    print(env_id, count, (memory, threads, files), after)
    assert after[1:] == (threads, files)
    assert after[0] - memory < 40  # It goes up and down by 11, a model's size.
