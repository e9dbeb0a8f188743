"""How times grow: with environments, with batch and sequence length, and with the dataset's size.

    python benchmarks/growth.py

Also the memory that learning from an image dataset takes, as a multiple of the images' own bytes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from timing import in_turn, print_table, save, seconds_of, spread
from updates import UPDATES, Stopwatch

import aime_gym  # noqa: F401 - registers the ids
from agents import TrainingConfig, WorldModel, WorldModelConfig
from agents.replay import Replay
from aime_gym.datasets import Card, Dataset, Trajectory

ENV_ID = "AIME/walker-run-mdp"
ENVIRONMENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
BATCHES, LENGTHS = (5, 10, 25, 50, 100), (5, 10, 25, 50, 100)
ROWS = (10_000, 30_000, 100_000, 300_000, 1_000_000)
EPISODE, SENSORS = 500, {"orientations": 14, "height": 1, "velocity": 9}

MEMORY = """
import sys
sys.path.insert(0, {folder!r})
from growth import memory_of_images
print(memory_of_images({episodes}))
"""


def of_environments(rounds: int) -> dict[int, dict[str, float]]:
    """Number of environments -> microseconds per agent step of each."""
    paths = {}
    for number in ENVIRONMENTS:
        env = gym.make_vec(ENV_ID, num_envs=number)
        env.action_space.seed(0)
        actions = [env.action_space.sample() for _ in range(max(8, 400 // number))]
        env.reset(seed=0)

        def run(env: Any = env, actions: Any = actions, number: int = number) -> float:
            seconds = seconds_of(lambda: [env.step(action) for action in actions])
            return 1e6 * seconds / len(actions) / number

        paths[str(number)] = run
    return {int(name): spread(values) for name, values in in_turn(paths, rounds).items()}


def noise(episodes: int, images: bool = False) -> Dataset:
    """Episodes of noise."""
    generator = np.random.default_rng(0)

    def trajectory() -> Trajectory:
        shape = (EPISODE + 1, 64, 64, 3)
        sensors = {
            name: generator.normal(size=(EPISODE + 1, size)).astype(np.float32)
            for name, size in SENSORS.items()
        }
        if images:
            sensors["image"] = generator.integers(0, 256, shape, dtype=np.uint8)
        actions = generator.uniform(-1, 1, (EPISODE, 6)).astype(np.float32)
        return Trajectory(sensors, actions, np.zeros(EPISODE, np.float32))

    return Dataset([trajectory() for _ in range(episodes)], Card("noise", "walker"))


def of_updates(rounds: int) -> dict[str, dict[int, dict[str, float]]]:
    """Milliseconds of an update of phase 1, over the batch and over the sequence length."""
    data = noise(4)
    found: dict[str, dict[int, dict[str, float]]] = {}
    for what, sizes in (("batch_size", BATCHES), ("sequence_length", LENGTHS)):
        paths = {}
        for size in sizes:
            settings: dict[str, Any] = {"batch_size": 25, "sequence_length": 25, what: size}
            training = TrainingConfig(**settings, burn_ins=(0,), held_out_share=0.0)
            model = WorldModel(ENV_ID, WorldModelConfig.paper("walker"), training, device="cpu")

            def run(model: WorldModel = model) -> float:
                watch = Stopwatch()
                model.learn(data, UPDATES + 1, callback=watch, reset_num_timesteps=False)
                return 1_000 * float(np.median(watch.seconds))

            paths[str(size)] = run
        found[what] = {int(n): spread(values) for n, values in in_turn(paths, rounds).items()}
    return found


def of_sampling(rounds: int) -> dict[int, dict[str, float]]:
    """Rows of a dataset -> milliseconds of drawing a batch of 50 windows of 50 rows."""
    info = WorldModel(ENV_ID, device="cpu").env_info
    one, generator, paths = noise(1)[0], torch.Generator().manual_seed(0), {}
    for rows in ROWS:
        replay = Replay(info, list(SENSORS)).add([one] * (rows // EPISODE))
        replay.sample(50, 50, generator)

        def run(replay: Replay = replay) -> float:
            return 1_000 * min(
                seconds_of(lambda: replay.sample(50, 50, generator)) for _ in range(5)
            )

        paths[str(rows)] = run
    return {int(name): spread(values) for name, values in in_turn(paths, rounds).items()}


def memory_of_images(episodes: int) -> float:
    """Bytes that two updates on images add to the process, over those of the images themselves.

    The dataset is in memory before; on disk it would be read as it is needed.
    """
    import psutil

    config = WorldModelConfig().narrow()
    training = TrainingConfig(5, 2, burn_ins=(0,), held_out_share=0.0)
    env_id = "AIME/walker-run-visual"
    WorldModel(env_id, config, training, device="cpu").learn(noise(1, images=True), 2)
    data = noise(episodes, images=True)
    images = sum(trajectory.sensors["image"].nbytes for trajectory in data)
    before = psutil.Process().memory_info().rss
    peaks: list[int] = []

    def look(*_: object) -> bool:
        peaks.append(psutil.Process().memory_info().rss)
        return True

    model = WorldModel(env_id, config, training, device="cpu")
    model.learn(data, 2, callback=look)
    return (max(peaks) - before) / images


def measured_memory(episodes: int) -> float:
    """The same in a process of its own."""
    script = MEMORY.format(folder=str(Path(__file__).parent), episodes=episodes)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True
    )
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    """Measures, prints, and writes JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--image-episodes", type=int, default=40)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    curves: dict[str, Any] = {
        "environments: us per step of each": of_environments(options.rounds),
        "dataset rows: ms of a batch": of_sampling(options.rounds),
    }
    for what, curve in of_updates(options.rounds).items():
        curves[f"{what}: ms of an update"] = curve
    for name, curve in curves.items():
        print(f"\n{name}")
        rows = [(f"{size:,}", f"{values['median']:.2f}") for size, values in curve.items()]
        print_table(("size", "median"), rows)
    memory = measured_memory(options.image_episodes)
    print(f"\nMemory of learning from images, over the images' own: {memory:.2f}")
    results = {"curves": curves, "memory of images": memory}
    save("growth", vars(options), results, options.out)


if __name__ == "__main__":
    main()
