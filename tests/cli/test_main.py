import importlib
import subprocess
import sys

import pytest
from tyro.extras import SubcommandApp

import aime_gym.cli
from aime_gym.cli import COMMANDS, collect
from aime_gym.cli.console import shell_command
from aime_gym.cli.errors import is_for_the_user

HEAVY = ("torch", "stable_baselines3", "dm_control", "mujoco", "matplotlib", "scipy", "agents")
GROUPS = {
    "environments": ("list", "check"),
    "datasets": (
        *("list", "show", "download", "push", "make", "mix"),
        *("convert", "verify", "picture", "render"),
    ),
    "models": ("list", "download", "push", "export"),
    "train": (
        *("world-model", "aime", "bc", "reptile", "bco", "iidm", "inverse-model", "forward-model"),
        *("dreamer", "plan2explore", "expert", "amigo"),
    ),
    "imujoco": (
        *("list", "build", "show", "download"),
        *("convert", "train", "results", "export", "unpack", "few-shot"),
    ),
}
LINES = [
    (),
    *((name,) for name in COMMANDS),
    *((group, name) for group, names in GROUPS.items() for name in names),
]


@pytest.mark.parametrize("words", LINES, ids=" ".join)
def test_every_command_explains_itself(run, words):
    code, out, _ = run(" ".join((*words, "--help")))
    assert code == 0
    assert f"usage: aime-gym {' '.join(words)}".strip() in " ".join(out.split())
    summary = out.split("\n\n")[1].strip()
    assert summary.endswith(".")
    assert len(summary.splitlines()) >= 1


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_agrees_with_their_files(run, name):
    module = importlib.import_module(f"aime_gym.cli.{name}")
    assert name in GROUPS or not hasattr(module, "app")
    if name in GROUPS:
        assert isinstance(module.app, SubcommandApp)
        assert f"{{{','.join(GROUPS[name])}}}" in run(f"{name} --help")[1]
    else:
        summary = getattr(module, name).__doc__.partition("\n")[0]
        assert summary.startswith(COMMANDS[name].removesuffix("."))


def test_help_lists_every_command_and_loads_nothing_heavy():
    code = (
        "import sys, contextlib, aime_gym.cli\n"
        "with contextlib.suppress(SystemExit):\n"
        "    aime_gym.cli.main(['--help'])\n"
        f"print('loaded', *[name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].split() == ["loaded"]
    text = " ".join(done.stdout.replace("│", " ").split())
    assert all(f"• {name} {summary}" in text for name, summary in COMMANDS.items())


@pytest.mark.parametrize("line", ["datasets list", "renew f", "environments list --body walker"])
def test_commands_about_data_do_without_torch(line, tmp_path):
    code = (
        "import sys, aime_gym.cli\n"
        f"aime_gym.cli.main({line.split()!r})\n"
        "print('loaded', *[name for name in ('torch', 'agents') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
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
    assert (code, err) == (expected[0], f"aime-gym: error: {expected[1]}\n" if expected[1] else "")
    assert out == ""


def test_faults_of_other_packages_keep_their_traceback(run, monkeypatch):
    def fail(*_):
        raise ValueError("shapes (2,) and (3,)")

    monkeypatch.setattr(collect, "shell_command", fail)
    with pytest.raises(ValueError, match="shapes"):
        run("collect --env e --policy p --name n --out o")


def test_deliberate_type_errors_are_for_the_user_and_others_are_not():
    def caught(call):
        with pytest.raises(TypeError) as error:
            call()
        return error.value

    deliberate = caught(lambda: aime_gym.evaluate(None, "AIME/walker-run-mdp"))
    assert is_for_the_user(deliberate)
    assert not is_for_the_user(caught(lambda: shell_command("evaluate", {}, 3)))


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
    assert shell_command("c", {"sizes": (1, 2)}) == "aime-gym c --sizes 1 2"


def test_the_version_is_told(run):
    from importlib.metadata import version

    assert run("--version") == (0, f"aime-gym {version('aime-gym')}\n", "")
    assert "--version" in run("--help")[1]
