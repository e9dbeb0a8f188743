"""``scripts/opengl.sh`` says what to install, and uses sudo only when it is asked to."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "opengl.sh"


@pytest.fixture
def machine(tmp_path):
    """A function that runs the script where nothing draws: its text, and what was called."""
    calls = tmp_path / "calls"

    def run(user: int, **settings: str) -> tuple[str, str]:
        for name, body in {
            "python": "exit 1",
            "id": f"echo {user}",
            "apt-get": f'echo "apt-get $*" >> {calls}',
            "sudo": f'echo "sudo $*" >> {calls}',
        }.items():
            command = tmp_path / name
            command.write_text(f"#!/bin/sh\n{body}\n")
            command.chmod(0o755)
        done = subprocess.run(
            ["sh", str(SCRIPT), "python"],
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **settings},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stderr, calls.read_text() if calls.exists() else ""

    return run


def test_without_being_asked_nothing_is_installed(machine):
    said, calls = machine(user=1000)
    assert "sudo apt-get install libegl1 libopengl0 libgl1-mesa-dri" in said
    assert "make opengl INSTALL=1" in said
    assert calls == ""


def test_sudo_is_used_when_it_is_asked_for(machine):
    assert "sudo apt-get update" in machine(user=1000, INSTALL="1")[1]


def test_root_needs_no_sudo(machine):
    _, calls = machine(user=0)
    assert "apt-get update" in calls
    assert "sudo" not in calls


def test_a_chosen_backend_is_not_installed_over(machine):
    assert machine(user=0, MUJOCO_GL="osmesa")[1] == ""
