"""Damaged inputs of every format: none hangs, runs code or is wrongly accepted."""

import importlib
from collections import Counter
from pathlib import Path

import pytest


@pytest.mark.parametrize(("count", "seed"), [(60, 1), pytest.param(560, 0, marks=pytest.mark.slow)])
def test_damaged_inputs(tmp_path, monkeypatch, count, seed):
    monkeypatch.setenv("AIME_GYM_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    cases = importlib.import_module("damaged").run(count, seed, tmp_path)
    wrong = [case for case in cases if case.outcome not in ("clear error", "equal")]
    assert not wrong, (Counter(case.outcome for case in cases), wrong)
