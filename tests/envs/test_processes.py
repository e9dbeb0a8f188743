"""Environments in processes that were forked: they work, or say at once why not."""

import os
import subprocess
import sys
import textwrap

import pytest

SECONDS = 60

FORK = """
import os, sys
import gymnasium as gym
import aime_gym

def in_a_fork(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except RuntimeError as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            os._exit(3)
        sys.exit(0)  # Through the interpreter's end.
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


def run(script, **environment):
    """The lines of a script, whose `in_a_fork` prints errors and the exit code of a fork."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK + textwrap.dedent(script)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    ).stdout.splitlines()


def test_a_vector_steps_in_threads_of_its_own_in_a_fork():
    answer = run(
        """
        env = gym.make_vec("AIME/walker-run-mdp", num_envs=4, num_threads=2)
        env.reset(seed=0)
        actions = env.action_space.sample()
        env.step(actions)  # Here are threads now, which a fork does not have.

        def work():
            print(env.step(actions)[0].sum(), flush=True)
            env.reset()
            env.close()

        in_a_fork(work)
        print(env.step(actions)[0].sum(), flush=True)
        env.close()
        """
    )
    assert answer[1] == "0"
    assert answer[0] == answer[2]


@pytest.mark.usefixtures("opengl")
def test_a_fork_of_a_process_that_has_drawn_says_that_it_cannot_draw():
    answer = run(
        """
        env = gym.make("AIME/walker-run-visual")
        env.reset(seed=0)
        in_a_fork(lambda: env.step(env.action_space.sample()))
        in_a_fork(lambda: gym.make("AIME/walker-run-visual").reset())
        in_a_fork(lambda: gym.make("AIME/walker-run-mdp").reset())
        in_a_fork(env.close)
        in_a_fork(lambda: None)
        print(env.step(env.action_space.sample())[0].shape)
        """
    )
    errors = [line for line in answer if line.startswith("RenderingUnavailable: No pictures in ")]
    assert len(errors) == 2
    assert all("spawn" in error for error in errors)
    codes = [line for line in answer if line not in errors]
    assert codes == ["3", "3", "0", "0", "0", "(64, 64, 3)"]


@pytest.mark.usefixtures("opengl")
def test_a_fork_of_a_process_that_has_not_drawn_draws():
    answer = run(
        """
        env = gym.make("AIME/walker-run-visual")
        in_a_fork(lambda: print(env.reset(seed=0)[0].shape, flush=True))
        """
    )
    assert answer == ["(64, 64, 3)", "0"]


@pytest.mark.usefixtures("opengl")
def test_bodies_of_imujoco_do_not_draw_in_a_fork_either():
    answer = run(
        """
        env = gym.make("iMuJoCo/hopper", render_mode="rgb_array")
        env.reset(seed=0)
        env.render()
        in_a_fork(env.render)
        os._exit(0)
        """,
        MUJOCO_GL="egl",
    )
    assert answer[-1] == "3"
    assert "had drawn before" in answer[-2]
