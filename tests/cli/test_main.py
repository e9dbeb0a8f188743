import subprocess
import sys

import pytest

import aime_gym.cli
from aime_gym.cli import app, collect
from aime_gym.cli.errors import is_for_the_user
from aime_gym.cli.words import shell_command


def command_lines(commands, before=()):
    for name, spec in commands._subcommands.items():
        words = (*before, name)
        yield words
        if isinstance(spec.target, type(app)):
            yield from command_lines(spec.target, words)


@pytest.mark.parametrize("words", [(), *command_lines(app)], ids=" ".join)
def test_every_command_explains_itself(run, words):
    code, out, _ = run(" ".join((*words, "--help")))
    assert code == 0
    assert f"usage: aime-gym {' '.join(words)}".strip() in " ".join(out.split())
    summary = out.split("\n\n")[1].strip()
    assert summary.endswith(".")
    assert len(summary.splitlines()) >= 1


def test_help_loads_nothing_heavy():
    heavy = ("torch", "stable_baselines3", "dm_control", "mujoco", "matplotlib", "scipy", "agents")
    code = (
        "import sys, contextlib, aime_gym.cli\n"
        "with contextlib.suppress(SystemExit):\n"
        "    aime_gym.cli.main(['--help'])\n"
        f"print('loaded', *[name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].split() == ["loaded"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (KeyboardInterrupt(), (130, "")),
        (FileNotFoundError("There is no\n   such file."), (2, "There is no such file.")),
        (OSError(28, "No space left on device"), (2, "[Errno 28] No space left on device")),
        (aime_gym.cli.errors.RenderingUnavailable("No OpenGL."), (2, "No OpenGL.")),
    ],
)
def test_errors_are_one_line(run, monkeypatch, error, expected):
    def fail(*_):
        raise error

    monkeypatch.setattr(collect, "shell_command", fail)
    code, out, err = run("collect --env e --policy p --name n --out o")
    assert (code, err) == (expected[0], f"aime-gym: {expected[1]}\n" if expected[1] else "")
    assert out == ""


def test_faults_of_other_packages_keep_their_traceback(run, monkeypatch):
    def fail(*_):
        raise ValueError("shapes (2,) and (3,)")

    monkeypatch.setattr(collect, "shell_command", fail)
    with pytest.raises(ValueError, match="shapes"):
        run("collect --env e --policy p --name n --out o")


def test_debugging_shows_the_traceback(run, monkeypatch):
    monkeypatch.setenv("AIME_GYM_DEBUG", "1")
    assert not is_for_the_user(FileNotFoundError("nothing"))
    with pytest.raises(FileNotFoundError, match="no dataset"):
        run("datasets show nothing")


@pytest.mark.parametrize("line", ["", "nothing", "collect --env AIME/cartpole-balance-mdp"])
def test_incomplete_lines_are_refused(run, line):
    assert run(line)[0] == 2


def test_commands_for_cards_can_be_pasted_into_a_shell():
    options = {"name": "a b", "num_envs": 0, "compact": True, "images": False, "sb3": None, "d": ""}
    command = shell_command("datasets mix", options, ["x:stride=2", "y"])
    assert command == "aime-gym datasets mix --name 'a b' --num-envs 0 --compact x:stride=2 y"
