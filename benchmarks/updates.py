"""Time of the gradient updates of phase 1 and phase 2, beside the same mathematics done plainly.

    python benchmarks/updates.py
    python benchmarks/updates.py --cells rssmo --setups mdp visual --out updates.json
    python benchmarks/updates.py --device cuda --out updates-cuda.json

Data are noise in the shape of a body's episodes. An update is sampling, loss, backward pass,
clipping and Adam. `plain.py` says what stands beside ours. On a processor it uses PyTorch's own
matrix products, and ours are measured with these and, where they are faster, with oneDNN's: exact
or, where those are not, rounded. On CUDA, ours are called, captured in CUDA graphs, and captured
with rounded products, or with gates that are compiled. The limit is the time that the update's
products alone would take at the rate of one large product.
"""

from __future__ import annotations

import argparse
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from plain import MeanStd, PlainModel, update
from stable_baselines3.common.callbacks import BaseCallback
from timing import Seconds, Timed, in_turn, print_table, ratio, save, seconds_of, shown
from torch.utils.flop_counter import FlopCounterMode

from agents import AIMEAgent, AIMEConfig, TrainingConfig, WorldModel, WorldModelConfig
from agents.captured import VARIABLE as CUDA_GRAPHS
from agents.fused import VARIABLE as COMPILE
from agents.nets import MLPConfig
from agents.products import EXACT, ROUNDED, use_fast_products
from agents.products import VARIABLE as FAST_PRODUCTS
from aime_gym.datasets import Card, Dataset, Trajectory

ROWS, EPISODES, ACTIONS = 501, 4, 6
BODIES = {"rssm": "walker", "rssmo": "cheetah"}
OBJECTIVES = ("elbo", "kl_only")
UPDATES = {"cpu": 2, "cuda": 20}  # Of ours in a round,
WARM_UP = {"cpu": 1, "cuda": 4}  # after some that are not measured: at the fourth is the capture.


class Stopwatch(BaseCallback):
    """Keeps the seconds of every update but the first ones.

    Args:
        device: Where the updates are made.
    """

    def __init__(self, device: str) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._device = device
        self._last = 0.0

    def _on_training_start(self) -> None:
        self._last = time.perf_counter()
        self.seconds = []

    def _on_step(self) -> bool:
        wait_for(self._device)
        now = time.perf_counter()
        if self.n_calls > WARM_UP[self._device]:
            self.seconds.append(now - self._last)
        self._last = now
        return True


def wait_for(device: str) -> None:
    """Until all is done that a GPU was told to do."""
    if device == "cuda":
        torch.cuda.synchronize()


class Products:
    """On a processor: PyTorch's own matrix products, and oneDNN's where faster.

    Attributes:
        kinds: Names of the ways; the first is the plain update's. ``exact`` and ``rounded`` are
            those of `agents.products`; where exact products are used, rounded ones are the same.
    """

    def __init__(self) -> None:
        self._settings = torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv
        usual = self._precisions()
        self._ways = {"usual": usual}
        for kind, allowed in (("exact", EXACT), ("rounded", ROUNDED)):
            os.environ[FAST_PRODUCTS] = allowed
            if "exact" not in self._ways and use_fast_products():
                self._ways[kind] = self._precisions()
                self.use("usual")
        self.kinds = [*self._ways]

    def _precisions(self) -> list[str]:
        return [setting.fp32_precision for setting in self._settings]

    def use(self, kind: str) -> None:
        """Switches over."""
        for setting, precision in zip(self._settings, self._ways[kind], strict=True):
            setting.fp32_precision = precision


class Graphs:
    """On CUDA: updates that are called, as the plain one is, and that CUDA graphs replay.

    The plain update's products are not rounded, and its gates not compiled.

    Attributes:
        kinds: Names of the ways.
    """

    kinds = ("called", "captured", "rounded", "compiled")  # The last two are captured, too.

    def use(self, kind: str) -> None:
        """Switches over."""
        os.environ[CUDA_GRAPHS] = str(int(kind != "called"))
        os.environ[COMPILE] = str(int(kind == "compiled"))
        precision = "tf32" if kind == "rounded" else "ieee"
        torch.backends.cuda.matmul.fp32_precision = precision


Ways = Products | Graphs


def gflops(ways: Ways, kind: str, device: str) -> float:
    """The rate of a large product, in 1e9 operations per second."""
    ways.use(kind)
    left, right = (torch.randn(rows, 512, device=device) for rows in (2_500, 512))

    def product() -> None:
        left @ right
        wait_for(device)

    product()
    best = min(seconds_of(product) for _ in range(30))
    return 2 * 2_500 * 512 * 512 / best / 1e9


def noise_dataset(info: Any, images: bool) -> Dataset:
    """Noise in the shape of episodes."""
    generator = np.random.default_rng(0)

    def trajectory() -> Trajectory:
        sizes = {**info.visible, **info.hidden}
        sensors = {
            name: generator.normal(size=(ROWS, size)).astype(np.float32)
            for name, size in sizes.items()
        }
        if images:
            sensors["image"] = generator.integers(0, 256, (ROWS, 64, 64, 3), dtype=np.uint8)
        actions = generator.uniform(-1, 1, (ROWS - 1, ACTIONS)).astype(np.float32)
        return Trajectory(sensors, actions, np.zeros(ROWS - 1, np.float32))

    return Dataset([trajectory() for _ in range(EPISODES)], Card("noise", info.body))


class Comparison:
    """One cell and setup: our learners, and the plain updates on data of the same shape."""

    def __init__(self, cell: str, setup: str, options: argparse.Namespace) -> None:
        body = BODIES[cell]
        size = {"batch_size": options.batch_size, "sequence_length": options.sequence_length}
        env_id, config = f"AIME/{body}-run-{setup}", WorldModelConfig.paper(body)
        training = TrainingConfig(**size, burn_ins=(0,), held_out_share=0.0, decay_timesteps=None)
        self.device = device = options.device
        model = WorldModel(env_id, config, training, device=device)
        self._data = noise_dataset(model.env_info, setup == "visual")
        self._learners: dict[str, Any] = {"phase 1": model}
        for objective in OBJECTIVES:
            published = AIMEConfig.paper(objective=objective, **size)
            agent = AIMEAgent(env_id, model, published, device=device)
            self._learners[f"phase 2, {objective}"] = agent
        info = model.env_info
        self._plain, self._frozen = (
            PlainModel(info.visible, info.hidden, ACTIONS, config).to(device) for _ in range(2)
        )
        self._frozen.requires_grad_(False)
        feature = config.deter_dim + config.stoch_dim
        self._policy = MeanStd(feature, ACTIONS, MLPConfig(), "mean_net").to(device)
        self._adams = {
            net: torch.optim.Adam(net.parameters(), lr=3e-4) for net in (self._plain, self._policy)
        }
        self._shape = options.sequence_length, options.batch_size
        self._stoch = config.stoch_dim
        self._columns = {
            name: torch.cat([torch.from_numpy(t.sensors[name]) for t in self._data]).to(device)
            for name in self._data[0].sensors
        }

    def ours(self, phase: str) -> float:
        """Seconds of one of our updates."""
        watch = Stopwatch(self.device)
        updates = WARM_UP[self.device] + UPDATES[self.device]
        self._learners[phase].learn(self._data, updates, callback=watch, reset_num_timesteps=False)
        return float(np.median(watch.seconds))

    def plain(self, phase: str) -> None:
        """One plain update."""
        steps, batch = self._shape
        where = torch.device(self.device)
        first = torch.randint(EPISODES * ROWS - steps, (batch,), device=where)
        rows = first + torch.arange(steps, device=where)[:, None]
        seen = {name: column[rows] for name, column in self._columns.items()}
        noise = torch.randn(steps, batch, self._stoch, device=where)
        actions = torch.rand(steps, batch, ACTIONS, device=where) * 2 - 1
        if phase == "phase 1":
            loss, trained = self._plain.loss(seen, actions, noise), self._plain
        else:
            loss = self._frozen.inference_loss(self._policy, seen, actions, noise)
            trained = self._policy
        update(loss, trained, self._adams[trained])
        wait_for(self.device)

    def gflop(self, phase: str) -> float:
        """Operations of a plain update's products and convolutions, in 1e9."""
        counter = FlopCounterMode(display=False)
        with counter:
            self.plain(phase)
        return counter.get_total_flops() / 1e9


def timed(ways: Ways, kind: str, run: Timed) -> Timed:
    """A run in one of two ways."""

    def switched() -> float:
        ways.use(kind)
        return run()

    return switched


def measure(comparison: Comparison, ways: Ways, rounds: int) -> dict[str, Any]:
    """Phase -> seconds of an update, and ratios to the plain one."""
    found = {}
    for phase in ("phase 1", *(f"phase 2, {objective}" for objective in OBJECTIVES)):
        plain, ours = partial(comparison.plain, phase), partial(comparison.ours, phase)
        paths = {"plain": timed(ways, ways.kinds[0], partial(seconds_of, plain))}
        paths |= {kind: timed(ways, kind, ours) for kind in ways.kinds}
        seconds: Seconds = in_turn(paths, rounds)
        found[phase] = {
            "seconds": {name: float(np.median(values)) for name, values in seconds.items()},
            "of plain": {kind: ratio(seconds, kind, "plain") for kind in ways.kinds},
            "gflop of plain": comparison.gflop(phase),
        }
    return found


def main() -> None:
    """Measures, prints, and writes JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cells", nargs="+", choices=[*BODIES], default=[*BODIES])
    parser.add_argument("--setups", nargs="+", choices=("mdp", "visual"), default=["mdp"])
    parser.add_argument("--device", choices=[*UPDATES], default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--sequence-length", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    ways = Products() if options.device == "cpu" else Graphs()
    rates = {kind: gflops(ways, kind, options.device) for kind in ways.kinds}
    results: dict[str, Any] = {"gflop per second of a large product": rates}
    rows = []
    for cell in options.cells:
        for setup in options.setups:
            found = measure(Comparison(cell, setup, options), ways, options.rounds)
            results[f"{cell} {setup}"] = found
            for phase, one in found.items():
                ratios = [shown(one["of plain"][kind]) for kind in ways.kinds]
                limit = one["gflop of plain"] / max(rates.values())
                seconds = [f"{1_000 * value:.1f}" for value in one["seconds"].values()]
                update_of = f"{cell} {setup}, {phase}"
                rows.append((update_of, ", ".join(seconds), *ratios, f"{1_000 * limit:.1f}"))
    names = [f"{kind} of plain" for kind in ways.kinds]
    print_table(("update", f"ms: plain, {', '.join(ways.kinds)}", *names, "limit, ms"), rows)
    save("updates", vars(options), results, options.out)


if __name__ == "__main__":
    main()
