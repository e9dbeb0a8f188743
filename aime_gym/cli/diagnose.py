"""``aime-gym diagnose``: what holds imitation back, the data, the model or the policy."""

from __future__ import annotations

from pathlib import Path

from agents import AIMEAgent, WorldModel
from agents.diagnosis import CEILING_UPDATES, EPISODES, HEADER, plot_diagnosis
from agents.diagnosis import diagnose as find_culprit
from aime_gym.cli.console import is_watched, say, show_table
from aime_gym.cli.outputs import writes
from aime_gym.datasets import load_dataset
from aime_gym.files import write_json
from aime_gym.ids import check_env_id

REPORT, FIGURE = "diagnosis.json", "diagnosis.png"
WHAT_IS_DIAGNOSED = (
    "--policy takes an AIME agent: a run folder of `aime-gym train aime`, an archive, a name, or a "
    "published folder with policy.pt. A world model alone goes after --world-model."
)


@writes(out="folder")
def diagnose(
    *,
    env: str,
    demos: str,
    policy: str | None = None,
    world_model: str | None = None,
    dataset: str | None = None,
    episodes: int = EPISODES,
    updates: int = CEILING_UPDATES,
    seed: int = 0,
    device: str = "auto",
    out: Path | None = None,
) -> None:
    """Find out whether the data, the world model or the policy hold imitation back.

    Args:
        env: The environment, such as AIME/walker-run-mdp.
        demos: Demonstrations with their actions: a name of `aime-gym datasets list`, or a path.
        policy: An AIME agent: a run folder of `aime-gym train aime`, an archive or a name.
        world_model: In place of a policy, a world model: a name of `aime-gym models list`, an
            archive, a run or a published folder.
        dataset: Embodiment data, what the world model learned from: a name or a path.
        episodes: Episodes of each score.
        updates: Updates in which a policy is regressed onto the true actions, for the ceiling.
        seed: Seed of windows, noise and regression.
        device: Where the networks are put: auto, cpu, cuda, ...
        out: A folder that gets diagnosis.json and diagnosis.png.
    """
    subject = _load(check_env_id(env), policy, world_model, device)
    watched = is_watched()
    demonstrations = load_dataset(demos, progress_bar=watched)
    embodiment = None if dataset is None else load_dataset(dataset, progress_bar=watched)
    found = find_culprit(
        subject,
        demonstrations,
        embodiment,
        episodes=episodes,
        updates=updates,
        seed=seed,
        progress_bar=watched,
    )
    if out is not None:
        write_json(out / REPORT, found.to_json())
        plot_diagnosis(found, out / FIGURE)
    show_table(HEADER, found.rows())
    for line in found.left_out:
        say(f"Left out: {line}")
    say(found.verdict)


def _load(
    env_id: str, policy: str | None, world_model: str | None, device: str
) -> AIMEAgent | WorldModel:
    """What is to be diagnosed.

    Raises:
        FileNotFoundError: There is no such policy or model.
        ValueError: Not one of both is given, or it is of another kind or environment.
    """
    if (policy is None) == (world_model is None):
        given = "neither" if policy is None else "both"
        raise ValueError(
            f"Give one of --policy and --world-model, not {given}. {WHAT_IS_DIAGNOSED}"
        )
    if world_model is not None:
        return WorldModel.load(world_model, env_id, device)
    assert policy is not None
    try:
        return AIMEAgent.load(policy, env_id, device)
    except (FileNotFoundError, ValueError) as error:
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        raise kind(f"{error} {WHAT_IS_DIAGNOSED}") from error
