"""benchmarks/on_gpu.sh: what travels, what comes back, and that nothing is lost on the way."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path

import pytest

from agents import WorldModel
from aime_gym.card import read_card

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "on_gpu.sh"
MODEL = "walker-mix-mdp"
MIB = 2**20

# Plays the slow commands of aime-gym, and hands everything else to Python itself.
PYTHON = """
    #!{python}
    import json, os, sys, time, zipfile
    from pathlib import Path

    words = sys.argv[1:]
    log = Path(os.environ["PLAYED"])
    if "make" in words:
        folder = Path(os.environ["AIME_GYM_CACHE"], "datasets", words[words.index("make") + 1])
        folder.mkdir(parents=True)
        (folder / "card.json").touch()
    elif "download" in words:
        folder = Path(words[words.index("--dest") + 1])
        folder.mkdir(parents=True)
        pins = [word for word in words if "==" in word]
        with zipfile.ZipFile(folder / "all.whl", "w") as wheel:
            wheel.writestr("dm_control/suite/walker.py", "\\n".join(pins))
            wheel.writestr("dm_control/suite/dog.stl", os.urandom(2**20))
            wheel.writestr("mujoco/_enums.so", os.urandom(int(os.environ.get("BYTES", "10"))))
            wheel.writestr("mujoco/experimental/viewer.so", os.urandom(2**20))
    elif "world-model" in words:
        options = dict(zip(words, words[1:]))  # The last of each counts.
        run, total = Path(options["--folder"]), int(options["--total-timesteps"])
        checkpoint = run / "checkpoint.zip"
        count = 0
        if checkpoint.exists():
            count = json.loads(zipfile.ZipFile(checkpoint).read("counters.json"))["num_timesteps"]
        model = run / options["--name"]
        model.mkdir(parents=True, exist_ok=True)
        (run / "config.json").write_text(json.dumps(options["--decay-timesteps"]))
        (run / "progress.csv").write_text("step")
        code = int(os.environ.get("EXIT", "0"))
        if code and total > count:
            sys.exit(code)
        while count < total:
            count += 1
            with zipfile.ZipFile(checkpoint.with_suffix(".new"), "w") as archive:
                archive.writestr("counters.json", json.dumps({{"num_timesteps": count}}))
                archive.writestr("weights", os.urandom(int(os.environ.get("BYTES", "10"))))
            os.replace(checkpoint.with_suffix(".new"), checkpoint)
            time.sleep(float(os.environ.get("SLEEP", "0")))
        (model / "model.zip").write_text(f"{{count}} updates")
        (model / "card.json").write_text(json.dumps(options))
    elif words[0].startswith("benchmarks/"):
        Path(words[words.index("--out") + 1]).write_text(" ".join(words[:-2]))
    elif "pytest" in words:
        sys.exit(int(os.environ.get("EXIT", "0")))
    else:
        os.execv({python!r}, [{python!r}, *words])
    with log.open("a") as file:
        file.write(" ".join(words[2:]) + "\\n")
"""


@pytest.fixture
def places(tmp_path):
    """What the script is told in its environment."""
    return {
        "GPU": tmp_path / "gpu",
        "RUNS": tmp_path / "runs",
        "OUT": tmp_path / "out",
        "PYTHON": Path(sys.executable),
        "RESERVE": 0,
        "PLAYED": tmp_path / "played.txt",
    }


@pytest.fixture
def environment(places, monkeypatch):
    """The environment of a call."""
    monkeypatch.delenv("AIME_GYM_CACHE", raising=False)

    def make(**changes):
        values = {"OMP_NUM_THREADS": "1", **places, **changes}
        return {**os.environ, **{key: str(value) for key, value in values.items()}}

    return make


@pytest.fixture
def call(environment):
    """A function that calls the script: its exit code, and what it printed."""

    def run(*words, **changes):
        return subprocess.run(
            [SCRIPT, *map(str, words)],
            env=environment(**changes),
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def played(places):
    """Python with the slow commands played; the file has the commands that were given."""
    path = places["PLAYED"].with_name("python")
    path.write_text(textwrap.dedent(PYTHON).lstrip().format(python=sys.executable))
    path.chmod(0o755)
    places["PYTHON"] = path
    return places["PLAYED"]


def updates(run):
    with zipfile.ZipFile(run / "checkpoint.zip") as archive:
        return json.loads(archive.read("counters.json"))["num_timesteps"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "the first word is pack, train, measure or collect"),
        ("send", "the first word is pack, train, measure or collect"),
        ("train", "train needs a MODEL: walker-mix-mdp"),
        (
            "train walker-mix-visual",
            "there is no recipe for 'walker-mix-visual'; there are: w",
        ),
        ("train walker-mix-mdp --hours 1", "no option '--hours'; options of aime-gym train come"),
        ("train walker-mix-mdp --minutes", "--minutes needs a value"),
        ("collect", "collect needs the folder"),
        ("collect /nowhere", "/nowhere has no MODEL/card.json: is it the folder that OUT named?"),
        ("pack hopper", "there is no recipe for 'hopper'"),
        ("pack walker-mix-mdp", "walker-mix-mdp has no checkpoint to go on from"),
    ],
)
def test_wrong_input(call, line, message):
    result = call(*line.split())
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", [("train", MODEL), ("measure",)])
def test_without_out(call, words):
    result = call(*words, OUT="")
    assert result.returncode == 2
    assert "OUT names the folder for what comes back" in result.stderr


def test_what_is_trained(call, places, played):
    result = call("train", "cheetah-mix-lpomdp", "--updates", 3, "--rows", 500, "--", "--seed", 7)
    assert result.returncode == 0, result.stderr
    made, trained = played.read_text().splitlines()
    assert made == "datasets make cheetah-mix --rows 500"
    assert trained.startswith(
        "train world-model --env AIME/cheetah-run-lpomdp --dataset cheetah-mix"
    )
    assert "--total-timesteps 3 --decay-timesteps 3 --seed 7" in trained
    back = places["OUT"] / "cheetah-mix-lpomdp"
    assert sorted(path.name for path in back.iterdir()) == [
        "card.json", "model.zip", "progress.csv", "run.tar.aa"
    ]  # fmt: skip


def test_what_is_measured(call, places, played):
    result = call("measure", EXIT=1)
    assert result.returncode == 2
    assert "captured updates fail here, so nothing is measured" in result.stderr
    assert call("measure").returncode == 0
    files = {path.name: path.read_text() for path in places["OUT"].iterdir()}
    assert files == {
        f"{name}-cuda.json": f"benchmarks/{name}.py --device cuda --rounds 3"
        for name in ("updates", "together")
    }


def test_there_and_back_again(call, places, played):
    """The checkpoint in parts; the next run goes on from it, on a machine that is bare again."""
    assert call("train", MODEL, "--updates", 2, BYTES=33 * MIB).returncode == 0
    parts = sorted((places["OUT"] / MODEL).glob("run.tar.*"))
    assert len(parts) == 3
    assert all(part.stat().st_size < 16 * MIB for part in parts)
    assert call("collect", places["OUT"]).returncode == 0
    run = places["RUNS"] / MODEL
    assert updates(run) == 2
    assert (run / MODEL / "model.zip").read_text() == "2 updates"
    (run / "final.zip").touch()
    subprocess.run(["rm", "-r", places["GPU"], places["OUT"]], check=True)
    packed = places["GPU"] / "runs" / MODEL
    packed.mkdir(parents=True)
    for name in ("config.json", "progress.csv", "checkpoint.zip"):
        (packed / name).write_bytes((run / name).read_bytes())
    assert call("train", MODEL, "--updates", 2, "--", "--total-timesteps", 5).returncode == 0
    assert call("collect", places["OUT"]).returncode == 0
    assert updates(run) == 5
    assert not (run / "final.zip").exists()
    assert len(list(run.glob("*"))) == 4


def test_a_checkpoint_that_is_too_large_stays(call, places, played):
    result = call("train", MODEL, "--updates", 1, BYTES=65 * MIB)
    assert result.returncode == 0
    assert "is too large to come back with the result" in result.stdout
    names = sorted(path.name for path in (places["OUT"] / MODEL).iterdir())
    assert names == ["card.json", "model.zip", "progress.csv"]
    assert call("collect", places["OUT"]).returncode == 0
    assert not (places["RUNS"] / MODEL / "checkpoint.zip").exists()


def test_when_the_time_is_over_the_result_is_that_of_the_last_checkpoint(call, places, played):
    result = call("train", MODEL, "--minutes", 0.05, "--updates", 1000, SLEEP=0.05)
    assert result.returncode == 0, result.stderr
    count = updates(places["GPU"] / "runs" / MODEL)
    assert 0 < count < 1000
    assert f"the last checkpoint is that of update {count}" in result.stdout
    card = json.loads((places["OUT"] / MODEL / "card.json").read_text())
    assert card["--total-timesteps"] == str(count)
    assert card["--decay-timesteps"] == "1000"


def pack_run(places, size):
    run = places["RUNS"] / MODEL
    run.mkdir(parents=True)
    for name in ("config.json", "progress.csv", "checkpoint.zip"):
        (run / name).write_bytes(bytes(size if name == "checkpoint.zip" else 1))


def test_packing_leaves_out_what_is_not_used(call, places, played):
    pack_run(places, 5)
    result = call("pack", MODEL)
    assert result.returncode == 0, result.stderr
    with zipfile.ZipFile(places["GPU"] / "wheels" / "all.whl") as wheel:
        assert wheel.namelist() == ["dm_control/suite/walker.py", "mujoco/_enums.so"]
        pins = wheel.read("dm_control/suite/walker.py").decode().splitlines()
    assert any(re.fullmatch(r"mujoco==[\d.]+", pin) for pin in pins)
    assert len(pins) == 12
    packed = places["GPU"] / "runs" / MODEL
    assert sorted(path.name for path in packed.iterdir()) == [
        "checkpoint.zip", "config.json", "progress.csv"
    ]  # fmt: skip


def test_what_is_too_large_to_travel(call, places, played, tracked):
    """A limit with room for 20 to 24 MiB beside the repository's own files."""
    limit = sum(path.stat().st_size for path in tracked) // MIB + 24
    pack_run(places, 15 * MIB)
    result = call("pack", MODEL, BYTES=15 * MIB, TRAVEL=limit)
    assert result.returncode == 0, result.stderr
    assert f"together more than {limit} MiB: send" in result.stdout
    result = call("pack", BYTES=30 * MIB, TRAVEL=limit)
    assert result.returncode == 2
    assert f"this is more than {limit} MiB" in result.stderr


def heed_interrupts():
    """What a shell starts in the background ignores them, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_training_and_leaves_the_result(environment, places, played, name):
    process = subprocess.Popen(
        [SCRIPT, "train", MODEL, "--updates", "100000"],
        env=environment(SLEEP=0.05),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )
    checkpoint = places["GPU"] / "runs" / MODEL / "checkpoint.zip"
    deadline = time.monotonic() + 60
    while not checkpoint.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(getattr(signal, name))
    assert process.wait(timeout=60) == 0
    assert (
        places["OUT"] / MODEL / "model.zip"
    ).read_text() == f"{updates(checkpoint.parent)} updates"


def test_failures_are_told(call, places, played):
    result = call("train", MODEL, "--updates", 4, EXIT=1)
    assert result.returncode == 2
    assert "exit code 1; AIME_GYM_CUDA_GRAPHS=0 trains without graphs" in result.stderr
    result = call("train", MODEL, "--updates", 4, "--minutes", 0)
    assert "the time was over before the first checkpoint" in result.stderr
    assert not places["OUT"].exists()


def test_a_later_or_another_run_is_not_replaced(call, places, played):
    call("train", MODEL, "--updates", 2)
    call("collect", places["OUT"])
    run = places["RUNS"] / MODEL
    with zipfile.ZipFile(run / "checkpoint.zip", "w") as archive:
        archive.writestr("counters.json", '{"num_timesteps": 9}')
    result = call("collect", places["OUT"])
    assert result.returncode == 2
    assert "has 9 updates, and what came back 2; move it away first" in result.stderr
    (run / "config.json").write_text("{}")
    result = call("collect", places["OUT"])
    assert "has a run of another configuration; move it away first" in result.stderr
    assert updates(run) == 9


TINY = (
    "--deter-dim 16 --stoch-dim 4 --hidden-dim 16 --sequence-length 5 --batch-size 2 "
    "--checkpoint-interval 2"
)


@pytest.mark.slow
def test_a_dry_run_without_a_gpu(call, places, environment):
    """Everything for true, on a tiny budget: train, collect, and go on from what came back."""
    data = places["GPU"] / "cache" / "datasets" / "walker-mix"
    command = "from aime_gym.cli import main; main()"
    mix = ["datasets", "mix", "walker-mix-small:episodes=3", "--name", "walker-mix", "--out", data]
    subprocess.run([sys.executable, "-c", command, *mix], cwd=ROOT, env=environment(), check=True)
    for total in (3, 5):
        result = call(
            "train", MODEL, "--updates", 5, "--device", "cpu", "--",
            *TINY.split(), "--total-timesteps", total,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert call("collect", places["OUT"]).returncode == 0
        run = places["RUNS"] / MODEL
        assert WorldModel.load(run, device="cpu").num_timesteps == total
        assert read_card(run / MODEL).updates == total
        subprocess.run(["rm", "-r", places["GPU"] / "runs"], check=True)
        (places["GPU"] / "runs").mkdir()
        (run).rename(places["GPU"] / "runs" / MODEL)
        places["RUNS"].rmdir()
    assert "/" not in (read_card(places["GPU"] / "runs" / MODEL / MODEL).command or "").replace(
        "AIME/walker-run-mdp", ""
    )
