"""The attacks of this folder: in short, and in whole."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


def attack(script, *words):
    """What a script of this folder prints in the end; it finds no fault."""
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name(script), *words],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


def test_some_kills():
    last = attack("kills.py", "--kills", "1", "--only", "inverse-model", "collect")
    assert re.fullmatch(r"\d+ kills of 2 commands, 0 faults", last)
    assert int(last.split()[0]) >= 2


def test_some_pairs():
    last = attack("pairs.py", "--first", "bc")
    assert re.fullmatch(r"\d+ pairs, 0 faults", last)
    assert int(last.split()[0]) >= 10


@pytest.mark.slow
def test_kills():
    last = attack("kills.py", "--kills", "2")
    assert int(last.split()[0]) >= 60


@pytest.mark.slow
def test_pairs():
    assert int(attack("pairs.py").split()[0]) >= 150
