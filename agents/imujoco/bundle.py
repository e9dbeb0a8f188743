"""Bundled policies: those that come with the package, and how a queue's folder becomes one of them.

    iMuJoCo-<body>-sac/
        model.zip     the body's best policy, which acts alone
        card.json     its returns, those of the base body's policy on the body, and the command

A policy loads by its name: ``aime-gym evaluate --env iMuJoCo/hopper --policy iMuJoCo-hopper-sac``.
Trajectories are not bundled: the policy makes them in seconds.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from agents.imujoco.queue import RESULT, PolicyQueue, PolicyResult, read_results
from agents.runs.recipes.online import BEST
from agents.sac import SACAgent
from aime_gym.card import Card, card_of_env, read_card, write_card
from aime_gym.catalogue import ARCHIVE, find_model, list_models
from aime_gym.files import new_folder, sha256, write_json
from aime_gym.imujoco_ids import NAMESPACE, Entry, find_body

RETURN, ZERO_SHOT, STEPS = "return", "zero-shot return", "timesteps"  # Metrics of a card.
_SUFFIX = "-sac"


def policy_name(body: str) -> str:
    """The name of a body's bundled policy."""
    return f"{NAMESPACE}-{body}{_SUFFIX}"


def bundled_bodies() -> list[str]:
    """The bodies that have a bundled policy."""
    start = f"{NAMESPACE}-"
    found = [name for name in list_models() if name.startswith(start) and name.endswith(_SUFFIX)]
    return [name.removeprefix(start).removesuffix(_SUFFIX) for name in found]


def load_bundled_policy(body: str, env: str | None = None, device: str = "cpu") -> SACAgent:
    """The bundled policy of a body.

    Args:
        body: Its name, such as ``"halfcheetah-massinc_100_torso"``.
        env: Another body of the same robot to act with, as an id; None for its own.
        device: Where it acts.

    Raises:
        FileNotFoundError: The body has none.
    """
    _check_bundled([body])
    return SACAgent.load(find_model(policy_name(body)), env=env, device=device)


def _check_bundled(bodies: Sequence[str]) -> None:
    bundled = bundled_bodies()
    missing = [body for body in bodies if body not in bundled]
    if missing:
        raise FileNotFoundError(
            f"There is no bundled policy of {', '.join(missing)}; there are those of "
            f"{', '.join(bundled) or 'no body'}. To train one: aime-gym imujoco train."
        )


def export_policies(folder: Path, out: Path) -> list[Path]:
    """Writes every finished policy of a queue's folder as a model with a card.

    Args:
        folder: A queue's folder.
        out: A folder of models; those that it has already are left alone.

    Returns:
        The folders that were written.

    Raises:
        FileNotFoundError: No policy is finished.
    """
    results = read_results(folder)
    if not results:
        raise FileNotFoundError(f"No policy in {folder} is finished.")
    written = []
    for name, result in results.items():
        target = out / policy_name(name)
        if target.exists():
            continue
        with new_folder(target) as part:
            shutil.copyfile(folder / name / BEST, part / ARCHIVE)
            write_card(part, _card(folder, result, sha256(part / ARCHIVE)))
        written.append(target)
    return written


def _card(folder: Path, result: PolicyResult, checksum: str) -> Card:
    agent = SACAgent.load(folder / result.name / BEST, device="cpu")
    entry = find_body(result.name)
    metrics = {RETURN: result.mean, STEPS: float(result.timesteps)}
    description = f"A policy of SAC for {entry.name}: return {result.mean:.0f}."
    if result.zero_shot_mean is not None:
        metrics[ZERO_SHOT] = result.zero_shot_mean
        description += f" That of the base body: {result.zero_shot_mean:.0f}."
    return card_of_env(
        entry.env_id,
        policy_name(entry.name),
        kind="model",
        description=description,
        command=f"aime-gym imujoco train --variants {entry.name} --seed {agent.seed} "
        f"{'--warm-timesteps' if result.zero_shot else '--total-timesteps'} {result.timesteps}",
        seed=agent.seed,
        evaluation_returns=result.returns,
        sha256={ARCHIVE: checksum},
        metrics=metrics,
    )


def unpack_policies(
    entries: Sequence[Entry], queue: PolicyQueue, say: Callable[[str], None] = print
) -> None:
    """Makes a queue's folder of bundled policies: each finished, with its trajectories.

    Args:
        entries: Bodies that have a bundled policy; those that are finished are left alone.
        queue: Whose folder, and how many trajectories.
        say: Is told what happens, line by line.

    Raises:
        FileNotFoundError: A body has no bundled policy.
        FileExistsError: A body's training has begun in the folder, or it has something else.
        ValueError: There is no such device, or another process is writing to the folder.
    """
    _check_bundled([entry.name for entry in entries])
    queue.claim()
    left = [entry for entry in entries if not queue.is_finished(entry)]
    for entry in left:
        if (queue.folder / entry.name).exists():
            raise FileExistsError(
                f"{queue.folder / entry.name} has a training that is not finished; choose another "
                "folder, or finish it: aime-gym imujoco train."
            )
    for entry in left:
        with queue.hold(entry, wait=True):
            if not queue.is_finished(entry):
                _unpack(entry, queue)
                say(f"{entry.name}: unpacked")


def _unpack(entry: Entry, queue: PolicyQueue) -> None:
    """Trajectories first: a folder of the body is there only with a result."""
    source = find_model(policy_name(entry.name))
    card = read_card(source.parent)
    policy = load_bundled_policy(entry.name, device=queue.device)
    queue.collect(entry, policy, card.evaluation_returns)
    zero_shot = queue.zero_shot(entry, find_model(policy_name(entry.robot)))
    timesteps = round(card.metrics[STEPS])
    result = PolicyResult(entry.name, card.evaluation_returns, zero_shot, timesteps)
    with new_folder(queue.folder / entry.name) as part:
        shutil.copyfile(source, part / BEST)
        write_json(part / RESULT, vars(result))
