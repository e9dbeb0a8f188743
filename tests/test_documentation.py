"""README.md, docs/ and examples/ as a new user would type them: blocks and commands run, in order.

What takes long is made short by more options, or left out for a reason that stands here. Nothing
may stand in the pages that is neither run nor left out, nor a command without the time it takes.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aime_gym.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
TIME = re.compile(r"#.*\b(seconds?|minutes?|hours?)\b")

# Pages whose Python belongs together, and what a reader's minutes become here.
PYTHON = {
    "your-own-data": ("your-own-data.md",),
    "getting-started": ("getting-started.md", "evaluation.md"),
    "data": ("datasets.md", "environments.md", "agents/world-model.md"),
    "agents": ("agents/bc.md", "agents/bco-iidm.md"),
}
LEFT_OUT_PYTHON = {
    "README.md": "tests/test_readme.py runs it",
    "benchmark.md": "hours; tests/agents/test_benchmark.py runs small grids",
    "diagnosis.md": "needs a trained agent; tests/agents/test_diagnosis.py has a small one",
    "agents/aime.md": "minutes; tests/agents/test_together.py runs small agents",
    "agents/dreaming.md": "hours; tests/agents/test_dreaming.py runs small agents",
    "agents/amigo.md": "hours; tests/agents/test_amigo.py runs small agents",
    "imujoco.md": "needs published files; tests/datasets/test_imujoco_npz.py makes some",
}
SHORTER_PYTHON = [
    (r"total_timesteps=[\d_]+", "total_timesteps=2"),
    (r"episodes=\d+", "episodes=1"),
    (r"progress_bar=True", "total_timesteps=2"),
    (r"total_timesteps=2, total_timesteps=2", "total_timesteps=2"),
    (r"learn\(demos\)", "learn(demos, 2)"),
    (r"\.learn\(10_000\)", ".learn(101)"),
    (
        r"BCOAgent\(env_id, embodiment\)",
        "BCOAgent(env_id, InverseModel(env_id).learn(embodiment, 2))",
    ),
]

# Commands by how they begin: options that make them short, or the reason why they are not run.
SHORTER = {
    "train expert --env AIME/walker-run-mdp --record": "--total-timesteps 1000 --episodes 1",
    "collect --env AIME/walker-run-mdp --policy random": "",  # Of its episodes, 30 are mixed later.
    "collect": "--episodes 1",
    "datasets make": "--rows 6000",
    "train world-model": "--total-timesteps 2",
    "train aime": "--start-updates 1 --total-timesteps 2 --episodes 1",
    "train bco": "--total-timesteps 2 --body-model-timesteps 2 --episodes 1",
    "train iidm": "--total-timesteps 2 --body-model-timesteps 2 --episodes 1",
    "evaluate": "--episodes 1",
    "video": "--size 32",
    "diagnose": "--episodes 1 --updates 2",
    "predict": "--size 32",
    "datasets verify": "--sample 2",
    "datasets convert": "",
    "datasets mix": "",
    "datasets picture": "",
    "imujoco unpack": "--variants hopper --trajectories 1",
    "imujoco results": "",
}
LEFT_OUT = {
    "train dreamer": "minutes before its first episode; tests/agents/test_dreaming.py",
    "train plan2explore": "the same",
    "train amigo": "hours; tests/cli/test_amigo.py runs a small one",
    "evaluate --env MiniGrid": "needs the run of amigo",
    "video --env MiniGrid": "the same",
    "imujoco train": "hours; tests/agents/imujoco trains small ones",
    "imujoco export": "needs these; tests/agents/imujoco",
    "imujoco few-shot": "hours; tests/agents/imujoco",
    "models export": "needs the run of dreamer; tests/agents/test_publishing.py",
    "train expert --env AIME/walker-run-mdp --algorithm simba": "needs the extra expert",
    "benchmark": "hours; tests/cli/test_benchmark.py",
    "report": "needs the benchmark; tests/cli/test_benchmark.py",
    "datasets download": "the network; tests/download",
    "models download": "the network; tests/download",
    "datasets push": "the network; tests/download",
    "models push": "the network; tests/download",
    "datasets render": "minutes of drawing; tests/cli/test_datasets.py",
}
QUICK = ("docs/your-own-data.md",)  # Their commands run in every test run.
SLOW = (  # In this order: later pages use what earlier ones have made.
    "docs/command-line.md",
    "README.md",
    "docs/agents/bco-iidm.md",
    "docs/agents/world-model.md",
    "docs/diagnosis.md",
    "docs/datasets.md",
    "docs/imujoco.md",
)


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of one language."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [text for name, text in found if name == language]


def commands(page: Path) -> Iterator[str]:
    """Every ``aime-gym ...`` of a page, in order, with its comment."""
    for block in blocks(page, "console"):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("aime-gym "):
                yield line.removeprefix("aime-gym ").strip()


def beginning(line: str, table: dict[str, str]) -> str | None:
    return max((key for key in table if line.startswith(key)), key=len, default=None)


def is_run(line: str) -> bool:
    return bool(beginning(line, SHORTER)) and not beginning(line, LEFT_OUT)


def words_of(line: str) -> list[str]:
    key = beginning(line, SHORTER)
    assert key is not None
    words = [*shlex.split(line, comments=True), *shlex.split(SHORTER[key])]
    return [*words, "--evaluate", "1"] if "--evaluate" in words else words


ALL_COMMANDS = sorted({line for page in PAGES for line in commands(page)})


@pytest.mark.parametrize("line", ALL_COMMANDS)
def test_commands_are_run_or_left_out_and_say_how_long_they_take(line):
    run, left_out = beginning(line, SHORTER), beginning(line, LEFT_OUT)
    assert run or left_out, "Say in this file how it is made short, or why it is left out."
    assert "network" in LEFT_OUT.get(left_out, "") or TIME.search(line), "Say how long it takes."


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pages_are_run_or_left_out(page):
    name = page.relative_to(ROOT).as_posix()
    if any(map(is_run, commands(page))):
        assert name in (*QUICK, *SLOW)
    if blocks(page, "python"):
        run = [name for names in PYTHON.values() for name in names]
        assert name.removeprefix("docs/") in (*run, *LEFT_OUT_PYTHON)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_python_that_learns_says_how_long_it_takes(page):
    for block in blocks(page, "python"):
        if re.search(r"\.learn\(|evaluate\(|run_grid\(", block):
            assert TIME.search(block), f"Say beside it how long this takes:\n{block}"


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_examples_say_how_long_they_take(path):
    told = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert re.search(r"about .*(second|minute|hour)", told)


def run_python(code: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning", "-c", code],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "AIME_GYM_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def shortened(pages: tuple[str, ...]) -> str:
    code = "\n".join(text for name in pages for text in blocks(ROOT / "docs" / name, "python"))
    for long, short in SHORTER_PYTHON:
        code = re.sub(long, short, code)
    return code


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """An empty folder to work in, without the user's data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIME_GYM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    for name in ("DATA", "MODELS"):
        monkeypatch.delenv(f"AIME_GYM_{name}", raising=False)
    return tmp_path


@pytest.mark.parametrize("name", [name for name in PYTHON if name != "your-own-data"])
def test_python_runs(name, desk):
    run_python(shortened(PYTHON[name]), desk)


def run_commands(pages: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    done: set[str] = set()
    for page in pages:
        for line in commands(ROOT / page):
            plain = " ".join(shlex.split(line, comments=True))
            if is_run(line) and plain not in done:
                done.add(plain)
                code = main(words_of(line))
                assert code == 0, f"{page}: aime-gym {line}\n{capsys.readouterr().err}"


def test_quick_commands_run(desk, capsys):
    run_python(shortened(PYTHON["your-own-data"]), desk)
    run_commands(QUICK, capsys)


@pytest.mark.slow
def test_long_commands_run(desk, capsys):
    run_commands(SLOW, capsys)
