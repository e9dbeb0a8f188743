"""The wheel stands alone: built, installed into an empty folder, and used from there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("aime_gym", "agents")
NO_CACHES = shutil.ignore_patterns("__pycache__", "*.egg-info")

USE = """
from pathlib import Path
import aime_gym

assert Path(aime_gym.__file__).is_relative_to({target!r}), aime_gym.__file__
assert "AIME/walker-run-visual" in aime_gym.list_environments()
names = aime_gym.list_datasets()
assert "walker-run-expert" in names, names
demos = aime_gym.load_dataset("walker-run-expert")
assert len(demos) >= 20 and demos.episode_returns.mean() > 500, demos

import agents

assert Path(agents.__file__).is_relative_to({target!r}), agents.__file__
assert "walker-mix-mdp" in agents.list_models(), agents.list_models()
model = agents.WorldModel.load("walker-mix-mdp")
print(type(model).__name__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=NO_CACHES)
    _python("-m", "build", "--wheel", "--no-isolation", "--outdir", "dist", ".", cwd=source)
    (built,) = (source / "dist").glob("*.whl")
    return built


def test_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    sources = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"aime_gym/py.typed", "agents/py.typed"} <= packed
    assert any(name.startswith("aime_gym/assets/") for name in packed)
    assert not sources - packed, "package_data in setup.cfg, or an __init__.py, is missing"


def test_wheel_names_its_license_and_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        texts = {
            Path(name).name: file.read(name).decode()
            for name in file.namelist()
            if ".dist-info/" in name and not name.endswith("RECORD")
        }
    assert "License-Expression: MIT" in texts["METADATA"]
    assert "MIT License" in texts["LICENSE"]
    assert "aime-gym = aime_gym.cli:main" in texts["entry_points.txt"]


def test_installed_wheel_finds_its_data_and_models(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "installed"
    pip = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target))
    _python(*pip, str(wheel), cwd=tmp_path)
    said = _python("-c", USE.format(target=str(target)), cwd=tmp_path, PYTHONPATH=str(target))
    assert said.strip() == "WorldModel"


def _python(*arguments: str, cwd: Path, **environment: str) -> str:
    """Runs this Python; its output is the error message if it fails."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
