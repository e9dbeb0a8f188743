"""``aime-gym imujoco``: altered bodies, their policies, and few-shot imitation with them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tyro
from tyro.extras import SubcommandApp

from aime_gym.cli.console import is_watched, show_table
from aime_gym.cli.outputs import writes
from aime_gym.files import atomic_write
from aime_gym.imujoco_ids import Entry, Variant, catalogue, find_body
from aime_gym.places import reserved, reserved_folder
from aime_gym.rendering import Frames

app = SubcommandApp()
Archive = Literal["xml", "policies", "dataset"]
NONE = "-"
PICTURES = (".png", ".jpg")


@app.command(name="list")
def list_(*, robot: str | None = None, category: str | None = None) -> None:
    """List the bodies of the catalogue: known ones, those that were derived, or published files.

    Args:
        robot: hopper, halfcheetah or walker2d; by default all.
        category: mass, joint, length or friction; by default all.
    """
    if robot is not None:
        find_body(robot)
    rows = [
        (entry.env_id, *_facts(entry), entry.status)
        for entry in catalogue().values()
        if robot in (None, entry.robot) and (category is None or f"-{category}" in entry.name)
    ]
    if not rows:
        raise ValueError(
            f"There is no category {category!r}: mass, joint, length and friction are."
        )
    show_table(("environment", "altered", "part", "factor", "status"), rows)
    print(f"{len(rows)} bodies.")


def _facts(entry: Entry) -> tuple[str, str, str]:
    """What is altered, where, and the factor."""
    try:
        variant = Variant.parse(entry.name)
    except ValueError:  # A base body, or a published file with a name of its own.
        return NONE, NONE, NONE
    return variant.category, variant.part, f"{variant.factor:g}"


@app.command
@writes(out="file")
def build(name: tyro.conf.Positional[str], *, out: Path | None = None) -> None:
    """Write a body as an XML file of MuJoCo's.

    Args:
        name: A variant, such as hopper-massdec_25_leggeom, with any percentage; or a robot.
        out: A new file; by default <name>.xml.
    """
    from aime_gym.envs.imujoco.builder import write_xml

    path = write_xml(name, out or Path(f"{name}.xml"))
    print(f"{name} is in {path}.")


@app.command
@writes(out="file")
def show(name: tyro.conf.Positional[str], *, out: Path | None = None, size: int = 360) -> None:
    """Draw a body beside its base body, and say what differs.

    Args:
        name: A variant, such as hopper-massdec_25_leggeom, with any percentage.
        out: The picture's file; by default <name>.png.
        size: Width and height of each body's picture, pixels.
    """
    import imageio.v3 as imageio

    entry = find_body(name)
    path = out or Path(f"{name}.png")
    if path.suffix not in PICTURES or size < 1:
        raise ValueError(
            f"A body's picture is a {' or '.join(PICTURES)} file, of 1 pixel at least; got {path} "
            f"and {size}."
        )
    if path.exists():
        raise FileExistsError(f"{path} is there already; choose another file.")
    picture = picture_beside_base(entry, size)
    with atomic_write(path) as file:
        file.write(imageio.imwrite("<bytes>", picture, extension=path.suffix))
    category, part, factor = _facts(entry)
    print(f"{name}: {category} of {part} x {factor}, {entry.status}. Its picture is {path}.")


def picture_beside_base(entry: Entry, size: int) -> Frames:
    """A base body and a variant, as they stand at the start [H, W, 3]."""
    import gymnasium as gym

    from aime_gym.ids import check_env_id
    from aime_gym.physics import get_physics_state
    from aime_gym.rendering import render_states, side_by_side

    frames = {}
    for name in dict.fromkeys((entry.robot, entry.name)):
        with gym.make(check_env_id(find_body(name).env_id), reset_noise_scale=0.0) as env:
            env.reset(seed=0)
            state = get_physics_state(env)
            assert state is not None
            frames[name] = render_states(env, state[None], size, size)
    picture: Frames = side_by_side(frames)[0]
    return picture


@app.command
def download(name: tyro.conf.Positional[Archive], *, sha256: str | None = None) -> None:
    """Download one of the published archives: bodies, policies, or data (2.7 GB).

    Args:
        name: xml, policies or dataset.
        sha256: The checksum that the archive has to have, where it is known.
    """
    from aime_gym.download import download_imujoco

    folder = download_imujoco(name, sha256=sha256, progress_bar=is_watched())
    print(f"iMuJoCo's {name} is in {folder}.")


@app.command
def convert(file: tyro.conf.Positional[Path], *, out: Path, variant: str | None = None) -> None:
    """Turn a published .npz file into a dataset of this package, or a dataset into such a file.

    Args:
        file: sac-<variant>.npz; or a dataset, by its name or folder.
        out: A new folder for a dataset; or a new file that ends with .npz.
        variant: The body of a file whose name does not say it.
    """
    from aime_gym.datasets import load_dataset, read_imujoco_npz, save_dataset, write_imujoco_npz

    if out.suffix == ".npz":
        with reserved(out):
            dataset = load_dataset(file, progress_bar=is_watched())
            write_imujoco_npz(dataset, out)
    else:
        with reserved_folder(out):
            dataset = read_imujoco_npz(file, variant)
            save_dataset(dataset, out, sensor_dtype=None)
    print(f"{dataset}\nIt is in {out}.")


@app.command
def train(
    *,
    variants: tuple[str, ...],
    folder: Path = Path("runs/imujoco"),
    total_timesteps: int = 200_000,
    warm_timesteps: int = 40_000,
    warm_learning_starts: int = 5_000,
    warm_start: bool = True,
    algorithm: Literal["simba", "sac"] = "simba",
    trajectories: int = 100,
    episodes: int = 10,
    seed: int = 0,
    device: str = "cpu",
) -> int:
    """Train policies for bodies, one after another; several workers may share the folder.

    The same command again goes on where it stopped, with what is not finished and no other worker
    has. Exit code 1 where something failed.

    Args:
        variants: all, base, names, and patterns such as 'hopper-mass*'.
        folder: The queue's folder.
        total_timesteps: Agent steps of a policy that learns from scratch.
        warm_timesteps: Agent steps of a policy that starts from its base body's.
        warm_learning_starts: Those of them before its first update, acting as the base body's.
        warm_start: Start the policies of variants from those of their base bodies.
        algorithm: simba, SBX's, which needs fewer steps; or sac, Stable-Baselines3's.
        trajectories: Blocks of 1,000 steps that are collected with each policy.
        episodes: Episodes of each evaluation.
        seed: Seed of networks, exploration and noise.
        device: Where to train: auto, cpu, cuda, ...
    """
    from agents.imujoco import PolicyQueue, select_bodies
    from agents.sac import SACConfig

    queue = PolicyQueue(
        folder=folder,
        total_timesteps=total_timesteps,
        warm_timesteps=warm_timesteps,
        warm_learning_starts=warm_learning_starts,
        warm_start=warm_start,
        trajectories=trajectories,
        episodes=episodes,
        seed=seed,
        device=device,
        config=SACConfig(algorithm=algorithm),
    )
    failed = queue.run(select_bodies(variants), progress_bar=is_watched())
    results(folder=folder)
    for name, error in failed.items():
        print(f"{name}: {error}")
    return int(bool(failed))


@app.command
def results(*, folder: Path = Path("runs/imujoco")) -> None:
    """Show what came of the policies: their returns beside those of the base body's policy.

    Args:
        folder: The queue's folder.
    """
    from agents.imujoco import read_results

    found = read_results(folder)
    if not found:
        print(f"No policy in {folder} is finished.")
        return
    rows = []
    for name, result in found.items():
        base = NONE if result.zero_shot_mean is None else f"{result.zero_shot_mean:.0f}"
        rows.append((name, f"{result.mean:.0f}", base, f"{result.timesteps:,}"))
    show_table(("body", "return", "base policy's", "steps"), rows)


@app.command
def export(*, folder: Path = Path("runs/imujoco"), out: Path) -> None:
    """Write the finished policies as models with a card, which load by name.

    Args:
        folder: The queue's folder.
        out: A folder of models, such as one of AIME_GYM_MODELS; those that it has stay.
    """
    from agents.imujoco import export_policies

    written = export_policies(folder, out)
    for path in written:
        print(path)
    print(f"{len(written)} policies.")


@app.command
def unpack(
    *,
    variants: tuple[str, ...] = (),
    folder: Path = Path("runs/imujoco"),
    trajectories: int = 20,
    device: str = "cpu",
) -> None:
    """Collect trajectories with the bundled policies, for few-shot imitation without training.

    Args:
        variants: all, base, names, and patterns such as 'hopper-mass*'; by default all that have a
            bundled policy.
        folder: A queue's folder; what is finished in it stays.
        trajectories: Blocks of 1,000 steps that are collected with each policy.
        device: Where the policies act: auto, cpu, cuda, ...
    """
    from agents.imujoco import PolicyQueue, bundled_bodies, select_bodies, unpack_policies

    queue = PolicyQueue(folder=folder, trajectories=trajectories, device=device)
    unpack_policies(select_bodies(variants or bundled_bodies()), queue)
    results(folder=folder)


@app.command(name="few-shot")
def few_shot(
    *,
    held_out: tuple[str, ...],
    folder: Path,
    policies: Path = Path("runs/imujoco"),
    training: tuple[str, ...] = (),
    shots: tuple[int, ...] = (1, 5, 20),
    seeds: tuple[int, ...] = (0, 1, 2),
    methods: tuple[str, ...] = (
        "BC from scratch",
        "BC fine-tuned",
        "BC meta-learned",
        "AIME",
    ),
    task_size: int = 10,
    start_timesteps: int = 5_000,
    meta_timesteps: int = 2_000,
    own_timesteps: int = 1_000,
    total_timesteps: int = 2_000,
    aime_timesteps: int = 5_000,
    random_episodes: int = 20,
    episodes: int = 20,
    processes: int | None = None,
) -> int:
    """Imitate bodies from few trajectories of their experts, in several ways.

    The same command again goes on where it stopped. Exit code 1 where a cell failed.

    Args:
        held_out: Bodies to imitate, of one robot.
        folder: The experiment's folder.
        policies: The folder of `aime-gym imujoco train`, in which all these bodies are finished.
        training: Bodies to learn from beforehand; by default all finished ones but the held-out.
        shots: Numbers of trajectories.
        seeds: Seeds of the agents.
        methods: BC from scratch, BC fine-tuned, BC meta-learned, and AIME, which sees no actions.
        task_size: Trajectories of every body to learn from beforehand.
        start_timesteps: Updates of the policy, and of the world model, of many bodies.
        meta_timesteps: Meta-updates.
        own_timesteps: Updates of the world model on a body's own random data.
        total_timesteps: Updates of behavioural cloning on the shots, at most.
        aime_timesteps: Updates of AIME on the shots, those of its start included.
        random_episodes: Random episodes of each body to imitate.
        episodes: Episodes that score a cell.
        processes: Cells at once; by default as many as there are cores.
    """
    options = {name: value for name, value in locals().items() if name != "processes"}
    from agents.imujoco.few_shot import FIGURE, FewShot

    outcome = FewShot(**options).run(processes=processes)
    print(outcome.table.to_markdown())
    print(f"The figure is {folder / FIGURE}.")
    return int(bool(outcome.failed))
