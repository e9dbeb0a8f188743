"""Grids on a cluster of two nodes on this machine, whose workers and nodes get lost."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from agents.archive import Archive
from agents.runs.benchmark import Grid, Method, run_grid
from agents.runs.cell import CLOCK, ERROR, RESULT
from agents.runs.stopping import StoppedError
from agents.runs.workers import RayJobs
from aime_gym.datasets import collect, save_dataset

pytestmark = pytest.mark.slow
ENV_ID, TASK = "AIME/cartpole-balance-mdp", "cartpole-balance"
NARROW = {"policy": {"hidden_dim": 8, "hidden_layers": 1}, "batch_size": 4}
TINY = {"total_timesteps": 3_000, "checkpoint_interval": 20, "config": NARROW}
PORT = 26_379
ADDRESS = f"127.0.0.1:{PORT}"
HEAD = ["--head", f"--port={PORT}", "--include-dashboard=false"]
COMMON = [
    "--node-ip-address=127.0.0.1", "--num-cpus=1", "--num-gpus=0", "--disable-usage-stats",
    "--object-store-memory=100000000", "--block",
]  # fmt: skip


def start_node(folder, *options):
    """A node of the cluster, as a process with a group of its own."""
    log = folder / f"{len(list(folder.iterdir()))}.log"
    ray = Path(sys.executable).with_name("ray")
    with log.open("w") as output:
        node = subprocess.Popen(
            [ray, "start", *options, *COMMON],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "RAY_worker_niceness": "0"},  # Other work would starve them.
            start_new_session=True,
        )
    wait_for(lambda: "Ray runtime started" in log.read_text())
    return node


def end_node(node):
    """Kills a node with all its processes, as a power cut would."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(node.pid, signal.SIGKILL)
    node.wait()


def wait_for(condition, seconds=90.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def cluster():
    """Two nodes of one core each; the second one."""
    with tempfile.TemporaryDirectory(prefix="ray") as folder:  # Sockets need a short path.
        place = Path(folder)
        nodes = [start_node(place, *HEAD, f"--temp-dir={folder}/r")]
        try:
            nodes.append(start_node(place, f"--address={ADDRESS}"))
            yield nodes[1]
        finally:
            for node in reversed(nodes):
                end_node(node)
            shutil.rmtree(place / "r", ignore_errors=True)


@pytest.fixture(autouse=True)
def demos(places):
    data = collect("random", ENV_ID, 2, seed=3, name=f"{TASK}-expert")
    save_dataset(data, places / "data" / f"{TASK}-expert")


def grid(*methods, **options):
    return Grid(
        methods=methods or (Method("BC", "bc", TINY),), tasks=(TASK,), episodes=2, **options
    )


def clock_of(folder):
    return json.loads((folder / CLOCK).read_bytes())


def when_both_learn(folders, act):
    """In the background: acts once both cells have checkpoints; returns what it came to."""
    found = {}

    def watch():
        wait_for(lambda: all((folder / "checkpoint.zip").exists() for folder in folders))
        found["finished"] = [folder for folder in folders if (folder / RESULT).exists()]
        found["before"] = [clock_of(folder) for folder in folders]
        act(found["before"])

    thread = threading.Thread(target=watch)
    thread.start()
    return thread, found


def test_a_lost_worker_is_replaced(cluster, places):
    whole = grid(Method("BC", "bc", TINY), seeds=(0, 1))
    folders = [places / "g" / whole.cell_folder(cell) for cell in whole.cells]
    thread, found = when_both_learn(
        folders, lambda clocks: os.kill(clocks[0]["process"], signal.SIGKILL)
    )
    outcome = run_grid(whole, places / "g", ray=ADDRESS)
    thread.join()
    assert not outcome.failed
    assert found["finished"] == []
    before, after = found["before"], [clock_of(folder) for folder in folders]
    assert before[0]["process"] != before[1]["process"]
    assert before[0]["process"] != after[0]["process"]
    assert len(list(folders[0].glob("events*"))) == 2  # It went on from its checkpoint.
    assert len(outcome.table.rows[0].scores.evaluations) == 2
    assert not list((places / "g").glob(".seen*"))


def test_a_lost_node_is_replaced(cluster, places):
    whole = grid(seeds=(0, 1))
    folders = [places / "g" / whole.cell_folder(cell) for cell in whole.cells]
    thread, found = when_both_learn(folders, lambda clocks: end_node(cluster))
    outcome = run_grid(whole, places / "g", ray=ADDRESS)
    thread.join()
    assert not outcome.failed
    assert found["finished"] == []
    changed = [
        b["process"] != clock_of(f)["process"]
        for b, f in zip(found["before"], folders, strict=True)
    ]
    assert sum(changed) == 1


def test_an_interruption_stops_the_jobs_with_checkpoints(cluster, places):
    rare = {**TINY, "total_timesteps": 1_000_000, "checkpoint_interval": 500}
    whole = grid(Method("BC", "bc", rare), seeds=(0, 1))
    folders = [places / "g" / whole.cell_folder(cell) for cell in whole.cells]
    thread, _ = when_both_learn(folders, lambda clocks: os.kill(os.getpid(), signal.SIGINT))
    said = []
    with pytest.raises(StoppedError, match="Stopped with 0 of 2 cells finished"):
        run_grid(whole, places / "g", ray=ADDRESS, say=said.append)
    thread.join()
    assert sorted(said[-2:]) == [f"{cell}: stopped" for cell in whole.cells]
    steps = [
        Archive.read(folder / "checkpoint.zip").counters["num_timesteps"] for folder in folders
    ]
    assert any(number % 500 for number in steps)  # Not the usual ones alone.
    assert not list((places / "g").rglob(ERROR))


def test_failures_and_files_come_back(cluster, places):
    short = {**TINY, "total_timesteps": 20}
    wrong = Method("wrong", "bc", {**short, "demos": "walker-run-expert"})
    outcome = run_grid(grid(wrong), places / "g", ray=ADDRESS)
    ((cell, error),) = outcome.failed.items()
    assert error.startswith("ValueError: Dataset 'walker-run-expert' is of body 'walker'")
    text = (places / "g" / grid(wrong).cell_folder(cell) / ERROR).read_text()
    assert "in run_on_node" in text
    assert "\x1b" not in text

    whole = grid(Method("BC", "bc", short))
    (places / "h").mkdir()
    with RayJobs(whole, places / "h", ADDRESS) as jobs:
        assert jobs.capacity == 2
        (token,) = (places / "h").iterdir()
        token.unlink()  # No node sees the folder now.
        jobs.start(whole.cells[0])
        ended = []
        while not ended:
            ended = jobs.ended(5.0)
    assert ended == [(whole.cells[0], None)]
    place = places / "h" / whole.cell_folder(whole.cells[0])
    assert {"final.zip", "progress.csv", RESULT} <= {path.name for path in place.iterdir()}


def test_an_address_without_a_cluster(places):
    with pytest.raises(ValueError, match=r"no cluster of Ray at '127\.0\.0\.1:9'"):
        run_grid(grid(), places / "g", ray="127.0.0.1:9")
