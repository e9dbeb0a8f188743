"""The runner of grids: what is finished, fails, is killed, is shared, and what comes of it."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from agents.archive import Archive
from agents.codec import encode
from agents.runs import benchmark
from agents.runs.benchmark import Grid, Method, describe, read_grid, run_grid, table_of
from agents.runs.cell import CLOCK, ERROR, LOG, RESULT, Stopwatch, encode_job, run_cell
from agents.runs.logs import read_curve
from agents.runs.stopping import ECHO
from agents.runs.workers import RayJobs, Workers, result_files, room, run_on_node
from aime_gym.card import read_card
from aime_gym.datasets import Dataset, collect, save_dataset
from aime_gym.evaluation.evaluate import Evaluation
from aime_gym.files import write_json
from aime_gym.places import reserved_folder

ENV_ID, TASK = "AIME/cartpole-balance-mdp", "cartpole-balance"
NARROW = {"policy": {"hidden_dim": 8, "hidden_layers": 1}, "batch_size": 4}
BCO = {**NARROW, "body_model": {"net": {"hidden_dim": 8}, "batch_size": 4}}
TINY = {"total_timesteps": 4, "checkpoint_interval": 2, "config": NARROW}
BC = Method("BC", "bc", TINY, minutes=1)
WRONG = Method("wrong", "bc", {**TINY, "demos": "walker-run-expert"})  # Of another body.


@pytest.fixture(scope="module")
def collected():
    return collect("random", ENV_ID, 2, seed=3, name=f"{TASK}-expert")


@pytest.fixture(autouse=True)
def demos(collected, places):
    """Demonstrations whose card knows the expert's returns."""
    card = dataclasses.replace(collected.card, evaluation_returns=(100.0, 120.0))
    save_dataset(Dataset([*collected], card), places / "data" / card.name)


def grid(*methods, **options):
    return Grid(methods=methods or (BC,), tasks=(TASK,), **{"episodes": 2, **options})


class Here(Workers):
    """Runs cells at once, in this process."""

    capacity = 1
    runs = ()

    def start(self, cell):
        self.runs = (*self.runs, cell)
        self.error = None
        try:
            run_cell(self._grid, cell, self._folder)
        except ValueError as error:
            self.error = f"Traceback\n  ...\n{error}\n"

    def ended(self, seconds):
        return [(self.runs[-1], self.error)]

    def stop(self):
        raise NotImplementedError

    def close(self):
        Here.started.extend(map(str, self.runs))


@pytest.fixture
def here(monkeypatch, short_episodes):
    """The cells that were started, by a runner that runs them in this process."""
    Here.started = []
    monkeypatch.setattr(benchmark, "Processes", lambda grid, folder, number: Here(grid, folder))
    return Here.started


def test_cells_are_run_once_and_tabulated(here, places, capsys):
    first = run_grid(grid(seeds=(0, 1)), places / "g")
    assert here == ["BC cartpole-balance-mdp seed 0", "BC cartpole-balance-mdp seed 1"]
    out = capsys.readouterr().out
    assert "2 cells, 0 of them finished; 2 to run of at most 2 min in all, 1 at once." in out
    assert "seed 0: started, budget 1 min\n" in out
    assert re.search(r"seed 1: started, budget 1 min, about \d+\.\d min\n", out)
    run_grid(grid(seeds=(2, 1, 0)), places / "g")
    assert here[2:] == ["BC cartpole-balance-mdp seed 2"]
    (row,) = first.table.rows
    results = [json.loads(path.read_bytes()) for path in sorted(places.glob("g/cells/*/cell.json"))]
    means = [result["evaluation"]["score"] for result in results]
    assert row.scores.score == pytest.approx(np.mean(means[:2]))
    assert (places / "g" / "scores.md").read_text().count("6 (3 seeds)") == 1
    assert json.loads((places / "g" / "scores.json").read_bytes())["aggregates"]["all"]["mean"]
    assert (places / "g" / "scores.png").stat().st_size > 10_000


def test_a_result_says_what_it_is(here, places):
    run_grid(grid(), places / "g")
    place = places / "g" / "cells" / "bc-cartpole-balance-mdp-seed0"
    result = json.loads((place / RESULT).read_bytes())
    assert result["recipe"]["config"]["policy"]["hidden_dim"] == 8
    assert result["recipe"]["demos"] == f"{TASK}-expert"
    assert len(result["evaluation"]["returns"]) == 2
    expected = read_card(places / "data" / f"{TASK}-expert").checksum
    assert [origin["sha256"] for origin in result["origins"]] == [expected]
    assert {"torch", "mujoco", "aime-gym"} <= result["versions"].keys()
    assert result["seconds"] > 0
    assert json.loads((place / CLOCK).read_bytes())["process"] == os.getpid()


def test_a_failure_stops_nothing_and_is_tried_again(here, places, capsys):
    outcome = run_grid(grid(WRONG, BC), places / "g")
    ((cell, error),) = outcome.failed.items()
    assert cell.method == "wrong"
    assert "walker" in error
    place = places / "g" / "cells" / "wrong-cartpole-balance-mdp-seed0"
    assert (place / ERROR).read_text().startswith("Traceback")
    assert f"failed: {error} (see {place / ERROR})" in capsys.readouterr().out
    assert [row.scores.method for row in outcome.table.rows] == ["BC"]
    assert run_grid(grid(WRONG, BC), places / "g").failed
    assert [name.split()[0] for name in here] == ["wrong", "BC", "wrong"]
    mended = dataclasses.replace(WRONG, name="right", options=TINY)
    assert not run_grid(grid(mended, BC), places / "g").failed


def test_a_failure_of_another_runner_is_not_repeated(here, places, monkeypatch):
    """Two runners: one has the cell, which fails while the other one waits for it."""
    run_grid(grid(), places / "g")
    whole = grid(WRONG, BC)
    place = places / "g" / whole.cell_folder(whole.cells[0])
    lock = benchmark.FileLock(place.with_name(f".{place.name}.lock"))
    place.mkdir()
    lock.acquire()

    def fail(seconds):
        (place / ERROR).write_text("Traceback\nValueError: no\n")
        lock.release()

    monkeypatch.setattr(benchmark.time, "sleep", fail)
    outcome = run_grid(whole, places / "g")
    assert [*outcome.failed.values()] == ["ValueError: no"]
    assert here == ["BC cartpole-balance-mdp seed 0"]


def test_results_are_gathered_and_fetched(here, places):
    options = {"gather": f"file://{places / 'bucket'}"}
    first = run_grid(grid(), places / "a", **options)
    names = {path.name for path in (places / "bucket").rglob("*")}
    assert {RESULT, "final.zip", "scores.png", "grid.json", "learning_curve.png"} <= names
    assert "checkpoint.zip" not in names
    second = run_grid(grid(), places / "b", **options)
    assert len(here) == 1
    assert second.table.rows[0].cells() == first.table.rows[0].cells()
    assert (places / "b" / "cells").exists()
    for folder in ("b", "c"):  # A cell that was finished before is sent, too.
        run_grid(grid(), places / folder, gather="memory://bucket")
    assert len(here) == 1
    with pytest.raises(ValueError, match="cannot be gathered in 'x9://b'"):
        run_grid(grid(), places / "d", gather="x9://b")
    assert not (places / "d").exists()


def test_results_of_another_grid_are_not_fetched(here, places):
    gather = str(places / "bucket")
    run_grid(grid(), places / "a", gather=gather)
    changed = grid(dataclasses.replace(BC, options={**TINY, "total_timesteps": 5}))
    with pytest.raises(ValueError, match=r"bucket/.* the result of another .*_timesteps 4, not 5"):
        run_grid(changed, places / "b", gather=gather)
    assert not list((places / "b").rglob(RESULT))


def test_a_place_that_fails_for_a_while_stops_nothing(here, places, monkeypatch, capsys):
    send, failures = benchmark.Gathering.send, [OSError("no route to it")]

    def send_later(self, cell):
        if failures:
            raise failures.pop()
        send(self, cell)

    monkeypatch.setattr(benchmark.Gathering, "send", send_later)
    run_grid(grid(), places / "g", gather=str(places / "bucket"))
    assert "not copied yet, which is tried again in the end: no route to it" in (
        capsys.readouterr().out
    )
    assert len(list((places / "bucket").rglob(RESULT))) == 1


def test_the_budget_is_watched(here, places, capsys):
    run_grid(grid(dataclasses.replace(BC, minutes=0.001)), places / "g")
    assert "of 0.001 min, over its budget" in capsys.readouterr().out


def test_the_stopwatch_adds_up(tmp_path):
    write_json(tmp_path / CLOCK, {"seconds": 50.0})
    assert 50.0 <= Stopwatch(tmp_path / CLOCK, 1).seconds < 60.0


def test_a_return_stands_for_a_score_without_an_expert():
    assert describe(Evaluation(ENV_ID, np.array([2.0, 4.0]))) == "return 3.0"
    assert describe(Evaluation(ENV_ID, np.array([2.0, 2.0]), expert_return=4.0)) == (
        "score 50.0 (50.0 to 50.0)"
    )


def test_folders_of_something_else(here, places):
    (places / "other").mkdir()
    (places / "other" / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match="has no grid, and is not empty"):
        run_grid(grid(), places / "other")
    run_grid(grid(), places / "g")
    with pytest.raises(ValueError, match=r"has another grid.*episodes 2, not 3"):
        run_grid(grid(episodes=3), places / "g")
    with pytest.raises(FileNotFoundError, match="has no grid"):
        read_grid(places / "other")
    assert len(here) == 1


def test_a_place_that_another_process_keeps_stays_as_it_is(here, places):
    """As that of `aime-gym collect`, which needs it empty in the end."""
    with reserved_folder(places / "g"):
        with pytest.raises(ValueError, match="Another process is working in"):
            run_grid(grid(), places / "g")
        assert not (places / "g").exists()
    run_grid(grid(), places / "g")


def test_a_result_of_another_recipe_is_not_taken_for_this_one(here, places):
    """Also where the grid had been without the cell in between."""
    other = dataclasses.replace(BC, name="other")
    run_grid(grid(BC, other), places / "g")
    run_grid(grid(other), places / "g")
    changed = dataclasses.replace(BC, options={**TINY, "total_timesteps": 5})
    with pytest.raises(ValueError, match="the result of another BC"):
        run_grid(grid(changed, other), places / "g")


# In other processes


@pytest.fixture
def long_grid(places):
    """A grid of two cells that take a while, and a file with it."""
    options = {**TINY, "total_timesteps": 1_000, "checkpoint_interval": 20}
    return grid(Method("BC", "bc", options), seeds=(0, 1))


def wait_for(condition, seconds=300.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_alive(process):
    try:
        return "zombie" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


GRID_FILE = """
import json
from agents.codec import decode
from agents.runs.benchmark import Grid

grid = decode(Grid, json.load(open("grid.json")))
"""


def start_runner(whole, places):
    """The command that runs a grid, one cell at a time, as a process."""
    write_json(places / "grid.json", encode(whole))
    (places / "grid.py").write_text(GRID_FILE)
    code = "import sys; from aime_gym.cli import main; sys.exit(main(sys.argv[1:]))"
    words = ["benchmark", "grid.py", "--folder", "g", "--processes", "1"]
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=places,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_runner_resumes_and_two_share_the_work(long_grid, places):
    runner = start_runner(long_grid, places)
    place = places / "g" / long_grid.cell_folder(long_grid.cells[0])
    wait_for((place / "checkpoint.zip").exists)
    runner.send_signal(signal.SIGKILL)
    runner.communicate()
    clock = json.loads((place / CLOCK).read_bytes())
    wait_for(lambda: not is_alive(clock["process"]), 5.0)
    assert not (place / RESULT).exists()
    done = Archive.read(place / "checkpoint.zip").counters["num_timesteps"]
    assert 0 < done < 1_000

    said = []
    with ThreadPoolExecutor() as pool:
        runs = [
            pool.submit(run_grid, long_grid, places / "g", processes=1, say=said.append)
            for _ in range(2)
        ]
        outcomes = [run.result() for run in runs]
    assert sorted(line for line in said if "started" in line) == [
        f"BC cartpole-balance-mdp seed {seed}: started" for seed in (0, 1)
    ]
    assert not any(outcome.failed for outcome in outcomes)
    assert outcomes[0].table.rows[0].cells() == outcomes[1].table.rows[0].cells()
    assert json.loads((place / CLOCK).read_bytes())["process"] != clock["process"]
    rows = [row["time/total_timesteps"] for row in read_curve(place / "progress.csv")]
    assert rows == sorted(rows)
    assert "The agent is" in (place / LOG).read_text()
    assert len(list(place.glob("events*"))) == 2  # One for each process.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_cells_with_a_checkpoint(places, number):
    rare = {**TINY, "total_timesteps": 1_000_000, "checkpoint_interval": 1_000_000}
    whole = grid(Method("BC", "bc", rare), seeds=(0, 1))
    runner = start_runner(whole, places)
    first, second = (places / "g" / whole.cell_folder(cell) for cell in whole.cells)
    wait_for((first / "config.json").exists)  # It learns.
    runner.send_signal(number)
    out, err = runner.communicate(timeout=60)
    assert runner.returncode == 130
    assert out.splitlines()[-1] == "BC cartpole-balance-mdp seed 0: stopped"
    assert "Stopping with a checkpoint, as soon as there can be one; once more stops at once" in err
    assert "Stopped with 0 of 2 cells finished" in err
    assert err.endswith("the same command goes on from there.\n")
    done = Archive.read(first / "checkpoint.zip").counters["num_timesteps"]
    assert 0 < done < 1_000_000
    assert f"Stopped at {done} timesteps" in (first / LOG).read_text()
    assert not second.exists()
    assert not list((places / "g").rglob(ERROR))


def test_the_second_signal_ends_a_runner_at_once(places):
    whole = grid(Method("BC", "bc", {**TINY, "total_timesteps": 1_000_000}))
    runner = start_runner(whole, places)
    place = places / "g" / whole.cell_folder(whole.cells[0])
    wait_for((place / "checkpoint.zip").exists)
    cell = json.loads((place / CLOCK).read_bytes())["process"]
    os.kill(cell, signal.SIGSTOP)  # One that would take long to end.
    runner.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        runner.communicate(timeout=2 * ECHO)
    runner.send_signal(signal.SIGINT)
    _, err = runner.communicate(timeout=10)
    assert runner.returncode == 130
    assert "Stopped" not in err
    assert not is_alive(cell)


def test_a_process_that_fails_leaves_its_traceback(places):
    outcome = run_grid(grid(WRONG), places / "g", processes=2)
    ((cell, _),) = outcome.failed.items()
    error = places / "g" / grid(WRONG).cell_folder(cell) / ERROR
    assert "The process ended with exit code 1" in error.read_text()
    assert "Traceback (most recent call last)" in error.read_text()
    assert not outcome.table.rows


def test_no_processes(places):
    with pytest.raises(ValueError, match="processes is at least 1"):
        run_grid(grid(), places / "g", processes=0)
    with pytest.raises(ValueError, match="processes is for this machine"):
        run_grid(grid(), places / "g", processes=2, ray="auto")
    assert not (places / "g").exists()


# On a cluster


def test_room_is_on_one_node():
    small, big = {"CPU": 3.0}, {"CPU": 8.0, "GPU": 1.0}
    nodes = [{"Alive": True, "Resources": resources} for resources in (small, small, big)]
    assert room(nodes, grid()) == 14
    assert room(nodes, grid(cpus=2)) == 6  # A core of each small node is left over.
    assert room(nodes, grid(gpus=0.5)) == 2
    assert room(nodes, grid(cpus=9)) == 0
    assert room([{**nodes[2], "Alive": False}], grid()) == 0


def test_a_node_without_the_folder_sends_its_files(places, monkeypatch, short_episodes):
    own = {"dataset": f"{TASK}-expert", "body_model_timesteps": 2, "config": BCO}
    whole = grid(Method("BCO", "bco", {**TINY, **own}))
    (cell,) = whole.cells
    monkeypatch.setattr("agents.runs.workers.tempfile.gettempdir", lambda: str(places / "node"))
    monkeypatch.delenv("AIME_GYM_CACHE")
    job = encode_job(whole, cell, places / "nowhere")
    files = run_on_node(job, ".token", {"AIME_GYM_CACHE": "c", "AIME_GYM_DATA": "not this"})
    assert list(files)[-1] == RESULT
    assert {"final.zip", "progress.csv", "evaluation.json"} <= files.keys()
    assert os.environ["AIME_GYM_CACHE"] == "c"
    assert not (places / "nowhere").exists()
    assert not list(places.glob("node/*/cells/*"))
    assert list(places.glob("node/*/first-stages/bco/cartpole/*/final.zip"))  # For other cells.


def test_a_node_that_sees_the_folder_works_in_it(places, short_episodes):
    (places / "g").mkdir()
    (places / "g" / ".token").touch()
    whole = grid()
    assert run_on_node(encode_job(whole, whole.cells[0], places / "g"), ".token", {}) == {}
    assert len(table_of(whole, places / "g").rows) == 1


def test_files_worth_keeping(places):
    for name in ("a/z.png", RESULT, "checkpoint.zip", ".lock", "final.zip"):
        path = places / "cell" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = result_files(places / "cell")
    names = [path.relative_to(places / "cell").as_posix() for path in found]
    assert names == ["a/z.png", "final.zip", RESULT]


def test_without_ray(places, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'aime-gym\[ray\]'"):
        RayJobs(grid(), places, "auto")
