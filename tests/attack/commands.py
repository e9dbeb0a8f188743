"""Long commands of the command line, so small that they end in seconds, in processes of their own.

A server has imported everything once, and every command runs in a process that is forked from it,
so that a kill meets work, not imports.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

ENV = "--env AIME/cartpole-balance-mdp"
SHORT = 80  # Control steps of an episode: 10 agent steps.
TINY = "--checkpoint-interval 3"
WINDOWS = f"{TINY} --sequence-length 4 --batch-size 3"
UPDATES = 30
PATIENCE = 500.0  # Seconds for a command, on a machine that has other work, too.
PRELOADED = [
    "agents", "agents.runs.recipes", "agents.runs.benchmark", "agents.imujoco.few_shot",
    "aime_gym.datasets", "aime_gym.envs.imujoco.environment", "aime_gym.envs.minigrid",
    "aime_gym.envs.dm_control.environment", "aime_gym.cli.train", "aime_gym.cli.collect",
    "aime_gym.cli.datasets", "aime_gym.cli.models", "aime_gym.cli.evaluate",
    "aime_gym.cli.predict", "aime_gym.cli.diagnose", "aime_gym.cli.benchmark",
    "aime_gym.cli.demo", "aime_gym.cli.imujoco", "aime_gym.cli.report", "aime_gym.cli.video",
    "minari", "h5py", "minigrid",
    "warm", "matplotlib.backends.backend_agg", "torch.utils.tensorboard",
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Command:
    """A command, and where its result is.

    Attributes:
        words: What comes after ``aime-gym``.
        out: Its folder or file.
        goes_on: Whether the same command again goes on or begins anew; if not, it refuses a result
            that is there.
        same: Whether it ends with the same result to the bit after a kill.
        needs: Which of `PREPARED` it reads.
    """

    words: str
    out: str
    goes_on: bool = True
    same: bool = True
    needs: tuple[str, ...] = ()


def train(kind: str, options: str, out: str = "run", **more: bool) -> Command:
    """A training command in a run folder."""
    return Command(f"train {kind} {ENV} --folder run {options}", out, **more)


GRID = """
from agents.runs.benchmark import Grid, Method

options = {{"total_timesteps": {updates}, "checkpoint_interval": 3, "evaluation_interval": 20}}
grid = Grid(
    methods=(Method("BC", "bc", options),), tasks=("cartpole-balance",), episodes=2, demos="toy"
)
"""
LEARN = f"--total-timesteps {UPDATES}"
ACT = "--total-timesteps 40 --evaluation-interval 20 --checkpoint-interval 20"
VARIANT = "hopper-massdec_25_leggeom"
BODIES = (
    "imujoco train --algorithm sac --total-timesteps 40 --warm-timesteps 20 --trajectories 1 "
    "--episodes 2"
)
PREPARED = {
    "grid": "benchmark grid.py --folder grid --processes 1",
    "minari": "datasets convert toy --format minari --out minari-v0",
    "imujoco": f"{BODIES} --variants {VARIANT} --folder imujoco",
}
"""What some commands read, in the folder ``prepared`` beside theirs."""

COMMANDS = {
    "world-model": train(
        "world-model", f"--dataset toy {LEARN} {WINDOWS} --deter-dim 8 --stoch-dim 4 --name m"
    ),
    "aime": train(
        "aime",
        f"--world-model wm --demos toy {LEARN} {WINDOWS} --start-updates 10 --policy.hidden-dim 8 "
        "--evaluation-interval 20",
    ),
    "bc": train("bc", f"--demos toy {LEARN} {TINY} --batch-size 4 --evaluation-interval 20"),
    "bco": train(
        "bco",
        f"--demos toy --dataset toy {LEARN} {TINY} --body-model-timesteps 20 "
        "--body-model-folder run/model --evaluation-interval 20",
    ),
    "iidm": train(
        "iidm",
        f"--demos toy --dataset toy {LEARN} {TINY} --body-model-timesteps 20 "
        "--body-model-folder run/model --evaluation-interval 20",
    ),
    "reptile": train("reptile", f"--demos toy {LEARN} {TINY} --batch-size 4 --task-size 2"),
    "inverse-model": train("inverse-model", f"--dataset toy {LEARN} {TINY}"),
    "forward-model": train("forward-model", f"--dataset toy {LEARN} {TINY}"),
    "dreamer": train("dreamer", f"{ACT} --record run/episodes"),
    "plan2explore": train("plan2explore", f"{ACT} --record run/episodes"),
    "expert": train(
        "expert", f"{ACT} --record run/episodes --learning-starts 10 --hidden-dim 8", same=False
    ),
    "amigo": Command(
        "train amigo --env MiniGrid-Empty-Random-5x5-v0 --folder run --total-timesteps 400 "
        "--episodes 2 --num-envs 4 --batch-size 2 --unroll-length 20 --teacher-batch-size 5 "
        "--device cpu --evaluation-interval 200 --checkpoint-interval 80",
        "run",
    ),
    "collect": Command(
        f"collect {ENV} --policy random --name new --out run --episodes 20", "run", goes_on=False
    ),
    "mix": Command(
        "datasets mix toy toy:stride=2 --name mixed --out run", "run", goes_on=False
    ),
    "convert": Command("datasets convert toy --format aime --out run", "run", goes_on=False),
    "to-minari": Command(
        "datasets convert toy --format minari --out run-v0", "run-v0", goes_on=False
    ),
    "from-minari": Command(
        "datasets convert ../prepared/minari-v0 --format native --out run",
        "run",
        goes_on=False,
        needs=("minari",),
    ),
    "make": Command("datasets make cheetah-mix --rows 3000 --out run", "run", goes_on=False),
    "render": Command("datasets render toy --out run", "run", goes_on=False),
    "export": Command("models export wm --out run", "run", goes_on=False),
    "evaluate": Command(
        f"evaluate {ENV} --policy random --episodes 50 --json run", "run"
    ),
    "picture": Command("datasets picture toy --out run.png", "run.png"),
    "predict": Command(
        "predict --world-model wm --dataset toy --out run.png --rows 10 --seen 4", "run.png"
    ),
    "diagnose": Command(
        f"diagnose {ENV} --world-model wm --demos toy --episodes 2 --updates 20 --out run", "run"
    ),
    "video": Command(
        f"video {ENV} --policy random --demos toy --size 64 --out run.mp4", "run.mp4"
    ),
    "demo": Command("demo --updates 4 --episodes 2 --folder run", "run"),
    "benchmark": Command("benchmark grid.py --folder run --processes 1", "run"),
    "report": Command("report ../prepared/grid --out run.html", "run.html", needs=("grid",)),
    "imujoco-build": Command(
        f"imujoco build {VARIANT} --out run.xml", "run.xml", goes_on=False
    ),
    "imujoco-show": Command(
        f"imujoco show {VARIANT} --size 64 --out run.png", "run.png", goes_on=False
    ),
    "imujoco-train": Command(f"{BODIES} --variants {VARIANT} --folder run", "run", same=False),
    "imujoco-read": Command(
        f"imujoco convert ../prepared/imujoco/dataset/sac-{VARIANT}.npz --out run",
        "run",
        goes_on=False,
        needs=("imujoco",),
    ),
    "imujoco-write": Command(
        f"imujoco convert ../prepared/imujoco/datasets/iMuJoCo-{VARIANT}-expert --out run.npz",
        "run.npz",
        goes_on=False,
        needs=("imujoco",),
    ),
    "few-shot": Command(
        f"imujoco few-shot --held-out {VARIANT} --training hopper --folder run "
        "--policies ../prepared/imujoco --shots 1 --seeds 0 "
        "--methods 'BC fine-tuned' 'BC meta-learned' "
        "--task-size 1 --start-timesteps 6 --meta-timesteps 2 --own-timesteps 3 "
        "--total-timesteps 6 --random-episodes 2 --episodes 2 --processes 1",
        "run",
        needs=("imujoco",),
    ),
}  # fmt: skip


def set_small() -> None:
    """Short episodes, few of them to score, short demos, and small agents that dream."""
    from agents.dreamer import DreamerConfig
    from agents.plan2explore import Plan2ExploreConfig
    from agents.runs.recipes import agent, online
    from aime_gym.cli import demo
    from aime_gym.datasets import embodiment
    from aime_gym.envs.dm_control import environment

    demo.CLONING_UPDATES, demo.VIDEO_SECONDS = 20, 1
    demo.CONFIG = dataclasses.replace(demo.CONFIG, start_updates=10)
    environment.CONTROL_STEPS = SHORT
    embodiment.BRANCH_STEPS = 20
    agent.EPISODES, online.EXPERT_EPISODES = 2, 1  # type: ignore[attr-defined]
    for config in (DreamerConfig, Plan2ExploreConfig):
        small = config.small()
        training = dataclasses.replace(small.training, sequence_length=5, batch_size=3)
        assert small.world_model is not None
        tiny = dataclasses.replace(
            small,
            world_model=small.world_model.narrow(8),
            training=training,
            pretrain_updates=2,
            round_updates=3,
            random_episodes=1,
            horizon=3,
        )
        config.small = classmethod(lambda cls, tiny=tiny: tiny)  # type: ignore[assignment]


def run_command(words: str, place: str, log: str) -> None:
    """Runs a command in a folder, with data and models from the folder above it."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    shared = Path(place).parent
    os.chdir(place)
    os.environ.update(
        AIME_GYM_DATA=str(shared / "data"),
        AIME_GYM_MODELS=str(shared / "models"),
        AIME_GYM_CACHE=str(Path(place) / "cache"),
        AIME_GYM_FAST_PRODUCTS="0",
    )
    set_small()
    from aime_gym.cli import main

    code = main(shlex.split(words))
    sys.stdout.flush()
    os._exit(code)


class Server:
    """Starts commands, each in a process forked from one that has imported everything."""

    def __init__(self) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__, *PRELOADED])

    def start(
        self, words: str, place: Path, updates: int = UPDATES
    ) -> multiprocessing.process.BaseProcess:
        """Starts a command in a folder, whose grid makes so many updates."""
        place.mkdir(parents=True, exist_ok=True)
        if not (place / "grid.py").exists():
            (place / "grid.py").write_text(GRID.format(updates=updates))
        process = self._context.Process(
            target=run_command, args=(words, str(place), str(place.with_suffix(".log")))
        )
        process.start()
        return process

    def run(self, words: str, place: Path) -> int | None:
        """Runs a command to its end; returns its exit code."""
        process = self.start(words, place)
        process.join(PATIENCE)
        if process.exitcode is None:
            process.kill()
            process.join()
        return process.exitcode


def prepare(server: Server, root: Path, names: Sequence[str] = ()) -> None:
    """Data and a world model for the commands, and what else those of some names read."""
    needed = dict.fromkeys(need for name in names for need in COMMANDS[name].needs)
    made = [
        f"collect {ENV} --policy random --name toy --out ../data/toy --episodes 8",
        f"train world-model {ENV} --dataset toy --total-timesteps 3 --folder wm-run --name wm "
        f"{WINDOWS} --deter-dim 8 --stoch-dim 4",
        *(PREPARED[need] for need in needed),
    ]
    for words in made:
        assert server.run(words, root / "prepared") == 0, (root / "prepared.log").read_text()
    (root / "models").mkdir(exist_ok=True)
    (root / "prepared/wm-run/wm").rename(root / "models/wm")
