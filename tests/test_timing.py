"""benchmarks/timing.py: ratios within rounds, their spread, and what a file of results says."""

import importlib.util
import json
from itertools import count
from pathlib import Path

import pytest

PATH = Path(__file__).parents[1] / "benchmarks" / "timing.py"


@pytest.fixture(scope="module")
def timing():
    spec = importlib.util.spec_from_file_location("timing", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_paths_are_measured_in_turn_after_one_run_of_each(timing):
    order, calls = [], count()

    def path(name):
        def run():
            order.append(name)
            return float(next(calls))

        return run

    seconds = timing.in_turn({"a": path("a"), "b": path("b")}, rounds=2)
    assert order == ["a", "b"] * 3
    assert seconds == {"a": [2.0, 4.0], "b": [3.0, 5.0]}


def test_a_ratio_is_the_median_over_rounds_of_that_within_each(timing):
    # A round that other work slowed fourfold changes nothing.
    seconds = {"ours": [1.0, 4.0, 2.0], "theirs": [2.0, 8.0, 8.0]}
    found = timing.ratio(seconds, "ours", "theirs")
    assert found == {"median": 0.5, "low": 0.375, "high": 0.5}
    assert timing.shown(found) == "0.50 (0.38 to 0.50)"
    assert timing.spread([3.0]) == {"median": 3.0, "low": 3.0, "high": 3.0}


def test_results_say_what_they_are_of(timing, tmp_path, capsys):
    out = tmp_path / "folder" / "results.json"
    timing.save("environments", {"rounds": 3, "out": out}, {"ratio": 0.5}, out)
    report = json.loads(out.read_text())
    assert report["results"] == {"ratio": 0.5}
    assert report["options"] == {"rounds": 3}
    assert report["commit"]
    assert report["machine"]["cores"] >= 1
    assert {"mujoco", "torch", "numpy"} <= set(report["versions"])
    timing.print_table(("path", "ratio"), [("ours, 64", "0.5")])
    lines = capsys.readouterr().out.splitlines()[-3:]
    assert lines == ["| path     | ratio |", "| -------- | ----- |", "| ours, 64 | 0.5   |"]
