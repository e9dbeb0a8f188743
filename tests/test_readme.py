"""What README.md and docs/ say holds: blocks run, commands take the options, metrics are named."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3.common.logger import KVWriter, Logger

from aime_gym.datasets import collect

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
AGENTS = ROOT / "docs" / "agents"
BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)

# What a reader's minutes become here. Each left side must stand in the README, word for word.
TINY = {
    "learn(demos, progress_bar=True)": "learn(demos, total_timesteps=2)",
    "n_eval_episodes=10": "n_eval_episodes=1",
    "episodes=100": "episodes=1",
}


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of one language."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [text for name, text in found if name == language]


def commands() -> list[tuple[str, str]]:
    """Page and line of every ``aime-gym ...`` in a console block; a backslash continues a line."""
    return sorted(
        {
            (page.name, line.strip())
            for page in PAGES
            for block in blocks(page, "console")
            for line in block.replace("\\\n", " ").splitlines()
            if line.strip().startswith("aime-gym ")
        }
    )


def test_readme_blocks_run_without_warnings(tmp_path: Path) -> None:
    code = "\n".join(blocks(ROOT / "README.md", "python"))
    for long, short in TINY.items():
        assert long in code, f"README.md has no {long!r} any more: adapt TINY."
        code = code.replace(long, short)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_import_what_exists(page: Path) -> None:
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                module = importlib.import_module(node.module)
                absent = [alias.name for alias in node.names if not hasattr(module, alias.name)]
                assert not absent, f"{node.module} has no {', '.join(absent)}"
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    importlib.import_module(alias.name)


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda p: p.name)
def test_benchmarks_import_what_exists(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        module = node.module if isinstance(node, ast.ImportFrom) else None
        if module is not None and module.partition(".")[0] in ("agents", "aime_gym"):
            found = importlib.import_module(module)
            absent = [alias.name for alias in node.names if not hasattr(found, alias.name)]
            assert not absent, f"{module} has no {', '.join(absent)}"


@pytest.mark.parametrize(("page", "line"), commands())
def test_commands_take_the_options_shown(
    page: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from aime_gym.cli import main

    words = shlex.split(line, comments=True)[1:]
    options = [word.split("=")[0] for word in words if word.startswith("--")]
    first_option = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    with pytest.raises(SystemExit) as end:
        main([*words[:first_option], "--help"])
    shown = capsys.readouterr().out
    assert end.value.code == 0, f"{page}: {line}"
    for option in options:
        assert re.search(rf"{re.escape(option)}(?![\w-])", shown), f"{page}: {line} has no {option}"


@pytest.mark.parametrize("setup", ["mdp", "lpomdp"])
def test_every_logged_metric_has_a_line_in_the_docs(setup: str) -> None:
    from agents import (
        AIMEAgent,
        AIMEConfig,
        BCAgent,
        BCOAgent,
        ForwardModel,
        IIDMAgent,
        InverseModel,
        WorldModel,
        WorldModelConfig,
    )

    env_id = f"AIME/walker-run-{setup}"
    data = collect("random", env_id, episodes=4, seed=0, name="walker-random")
    model = WorldModel(env_id, WorldModelConfig().narrow())
    inverse, forward = InverseModel(env_id), ForwardModel(env_id)
    agents = [
        ("world-model", model),
        ("aime", AIMEAgent(env_id, model, AIMEConfig(guidance=True))),
        ("bc", BCAgent(env_id)),
        ("bco-iidm", inverse),
        ("bco-iidm", BCOAgent(env_id, inverse)),
        ("bco-iidm", forward),
        ("bco-iidm", IIDMAgent(env_id, forward)),
    ]
    for page, agent in agents:
        recorder = Recorder()
        agent.set_logger(Logger(None, [recorder]))
        agent.learn(data, total_timesteps=1, log_interval=1)
        documented = set(
            re.findall(r"`((?:train|time)/[^`]+)`", (AGENTS / f"{page}.md").read_text())
        )
        sensors = "|".join(data.sensor_shapes)
        logged = {re.sub(rf"/(?:{sensors})_", "/<s>_", name) for name in recorder.names}
        assert logged, page
        assert not logged - documented, f"docs/agents/{page}.md"


@pytest.mark.usefixtures("short_episodes")
def test_every_metric_of_dreaming_has_a_line_in_the_docs() -> None:
    from agents import (
        DreamerAgent,
        DreamerConfig,
        Plan2ExploreAgent,
        Plan2ExploreConfig,
        TrainingConfig,
        WorldModelConfig,
    )

    pages = [(AGENTS / f"{name}.md").read_text() for name in ("dreaming", "world-model")]
    documented = set(re.findall(r"`((?:train|time)/[^`]+)`", "".join(pages)))
    small: dict[str, Any] = {
        "world_model": WorldModelConfig.residual().narrow(8),
        "training": TrainingConfig(sequence_length=3, batch_size=2),
        "pretrain_updates": 0,
        "round_updates": 1,
        "horizon": 2,
    }
    env_id = "AIME/walker-run-mdp"
    for agent in (
        DreamerAgent(env_id, DreamerConfig(**small), device="cpu"),
        Plan2ExploreAgent(env_id, Plan2ExploreConfig(**small), device="cpu"),
    ):
        recorder = Recorder()
        agent.set_logger(Logger(None, [recorder]))
        agent.learn(1)
        sensors = "|".join([*agent.env_info.visible, "reward"])
        logged = {re.sub(rf"/(?:{sensors})_", "/<s>_", name) for name in recorder.names}
        assert "train/imagined_return" in logged
        assert not logged - documented


class Recorder(KVWriter):
    """Gathers the names of what is logged."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def write(self, key_values: dict[str, Any], key_excluded: Any, step: int = 0) -> None:
        self.names |= set(key_values)

    def close(self) -> None:
        """Has nothing to close."""


@pytest.mark.parametrize("variant", ["window_adaptive", "novelty_based"])
def test_every_metric_of_amigo_has_a_line_in_the_docs(variant: Any) -> None:
    from agents import AMIGoAgent, AMIGoConfig

    documented = set(re.findall(r"`((?:train|time)/[^`]+)`", (AGENTS / "amigo.md").read_text()))
    config = AMIGoConfig(num_envs=2, batch_size=2, unroll_length=5)
    recorder = Recorder()
    agent = AMIGoAgent("MiniGrid-Empty-5x5-v0", variant, config, device="cpu")
    agent.set_logger(Logger(None, [recorder]))
    agent.learn(10)
    assert len(recorder.names) > 10
    assert not set(recorder.names) - documented
