"""Damaged inputs of every format: none hangs, runs code or is wrongly accepted."""

from collections import Counter

import pytest
from damaged import run


def check(cases):
    wrong = [case for case in cases if case.outcome not in ("clear error", "equal")]
    assert not wrong, (Counter(case.outcome for case in cases), wrong)


def test_some_damaged_inputs(tmp_path, monkeypatch):
    monkeypatch.setenv("AIME_GYM_CACHE", str(tmp_path / "cache"))
    check(run(60, 1, tmp_path))


@pytest.mark.slow
def test_500_damaged_inputs(tmp_path, monkeypatch):
    monkeypatch.setenv("AIME_GYM_CACHE", str(tmp_path / "cache"))
    check(run(520, 0, tmp_path))
