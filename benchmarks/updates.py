"""Time of the gradient updates of phase 1 and phase 2, beside the same mathematics done plainly.

    python benchmarks/updates.py
    python benchmarks/updates.py --cells rssmo --setups mdp visual --out updates.json

Data are noise in the shape of a body's episodes. An update is sampling, loss, backward pass,
clipping and Adam. `plain.py` says what stands beside ours; it uses PyTorch's own matrix products,
and ours are measured with these and, where they are exact and faster, with oneDNN's. The limit is
the time that the update's products alone would take at the rate of one large product.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from plain import MeanStd, PlainModel, update
from stable_baselines3.common.callbacks import BaseCallback
from timing import Seconds, in_turn, print_table, ratio, save, seconds_of, shown
from torch.utils.flop_counter import FlopCounterMode

from agents import AIMEAgent, AIMEConfig, TrainingConfig, WorldModel, WorldModelConfig
from agents.nets import MLPConfig
from agents.products import use_fast_products
from aime_gym.datasets import Card, Dataset, Trajectory

ROWS, EPISODES, ACTIONS = 501, 4, 6
BODIES = {"rssm": "walker", "rssmo": "cheetah"}
OBJECTIVES = ("elbo", "kl_only")
UPDATES = 2  # Of ours in a round.


class Stopwatch(BaseCallback):
    """Keeps the seconds of every update but the first."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def _on_training_start(self) -> None:
        self._last: float | None = None
        self.seconds = []

    def _on_step(self) -> bool:
        now = time.perf_counter()
        if self._last is not None:
            self.seconds.append(now - self._last)
        self._last = now
        return True


class Products:
    """PyTorch's own matrix products, and oneDNN's where they are exact and faster."""

    def __init__(self) -> None:
        self._setting = torch.backends.mkldnn.matmul
        self.usual = self._setting.fp32_precision
        self.fast = "bf16" if use_fast_products() else None
        self.use(self.usual)

    def use(self, precision: str) -> None:
        """Switches over."""
        self._setting.fp32_precision = precision

    def gflops(self, precision: str) -> float:
        """The rate of a large product, in 1e9 operations per second."""
        self.use(precision)
        left, right = torch.randn(2_500, 512), torch.randn(512, 512)
        left @ right
        best = min(seconds_of(lambda: left @ right) for _ in range(30))
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
        model = WorldModel(env_id, config, training, device="cpu")
        self._data = noise_dataset(model.env_info, setup == "visual")
        self._learners: dict[str, Any] = {"phase 1": model}
        for objective in OBJECTIVES:
            agent = AIMEAgent(env_id, model, AIMEConfig.paper(objective=objective, **size))
            self._learners[f"phase 2, {objective}"] = agent
        info = model.env_info
        self._plain = PlainModel(info.visible, info.hidden, ACTIONS, config)
        self._frozen = PlainModel(info.visible, info.hidden, ACTIONS, config).requires_grad_(False)
        feature = config.deter_dim + config.stoch_dim
        self._policy = MeanStd(feature, ACTIONS, MLPConfig(), "mean_net")
        self._adams = {
            net: torch.optim.Adam(net.parameters(), lr=3e-4) for net in (self._plain, self._policy)
        }
        self._shape = options.sequence_length, options.batch_size
        self._stoch = config.stoch_dim
        replay = {name: torch.cat([torch.from_numpy(t.sensors[name]) for t in self._data])
                  for name in self._data[0].sensors}  # fmt: skip
        self._columns = replay

    def ours(self, phase: str) -> float:
        """Seconds of one of our updates."""
        watch = Stopwatch()
        self._learners[phase].learn(
            self._data, UPDATES + 1, callback=watch, reset_num_timesteps=False
        )
        return float(np.median(watch.seconds))

    def plain(self, phase: str) -> None:
        """One plain update."""
        steps, batch = self._shape
        first = torch.randint(EPISODES * ROWS - steps, (batch,))
        rows = first + torch.arange(steps)[:, None]
        seen = {name: column[rows] for name, column in self._columns.items()}
        noise = torch.randn(steps, batch, self._stoch)
        actions = torch.rand(steps, batch, ACTIONS) * 2 - 1
        if phase == "phase 1":
            loss, trained = self._plain.loss(seen, actions, noise), self._plain
        else:
            loss = self._frozen.inference_loss(self._policy, seen, actions, noise)
            trained = self._policy
        update(loss, trained, self._adams[trained])

    def gflop(self, phase: str) -> float:
        """Operations of a plain update's products and convolutions, in 1e9."""
        counter = FlopCounterMode(display=False)
        with counter:
            self.plain(phase)
        return counter.get_total_flops() / 1e9


def with_products(products: Products, precision: str, run: Callable[[], float]) -> float:
    """Seconds of a run with some matrix products."""
    products.use(precision)
    return run()


def measure(comparison: Comparison, products: Products, rounds: int) -> dict[str, Any]:
    """Phase -> seconds of an update, and ratios to the plain one."""
    found = {}
    for phase in ("phase 1", *(f"phase 2, {objective}" for objective in OBJECTIVES)):
        kinds = {"usual": products.usual} | ({"fast": products.fast} if products.fast else {})
        paths: dict[str, Callable[[], float]] = {
            "plain": lambda phase=phase: with_products(
                products, products.usual, lambda: seconds_of(lambda: comparison.plain(phase))
            )
        }
        for kind, precision in kinds.items():
            paths[kind] = lambda phase=phase, precision=precision: with_products(
                products, precision, lambda: comparison.ours(phase)
            )
        seconds: Seconds = in_turn(paths, rounds)
        found[phase] = {
            "seconds": {name: float(np.median(values)) for name, values in seconds.items()},
            "of plain": {kind: ratio(seconds, kind, "plain") for kind in kinds},
            "gflop of plain": comparison.gflop(phase),
        }
    return found


def main() -> None:
    """Measures, prints, and writes JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cells", nargs="+", choices=[*BODIES], default=[*BODIES])
    parser.add_argument("--setups", nargs="+", choices=("mdp", "visual"), default=["mdp"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--sequence-length", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    products = Products()
    rates = {"usual": products.gflops(products.usual)}
    if products.fast:
        rates["fast"] = products.gflops(products.fast)
    results: dict[str, Any] = {"gflop per second of a large product": rates}
    rows = []
    for cell in options.cells:
        for setup in options.setups:
            found = measure(Comparison(cell, setup, options), products, options.rounds)
            results[f"{cell} {setup}"] = found
            for phase, one in found.items():
                ratios = {kind: shown(values) for kind, values in one["of plain"].items()}
                limit = one["gflop of plain"] / max(rates.values())
                seconds = [f"{1_000 * value:.0f}" for value in one["seconds"].values()]
                update_of = f"{cell} {setup}, {phase}"
                measured = ratios["usual"], ratios.get("fast", "")
                rows.append((update_of, ", ".join(seconds), *measured, f"{1_000 * limit:.0f}"))
    print_table(
        ("update", "ms: plain, ours, fast", "ours of plain", "with oneDNN's", "limit, ms"), rows
    )
    save("updates", vars(options), results, options.out)


if __name__ == "__main__":
    main()
