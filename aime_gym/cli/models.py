"""``aime-gym models``: the models on this machine, and new ones out of runs."""

from __future__ import annotations

from pathlib import Path

import tyro
from tyro.extras import SubcommandApp

from aime_gym.catalogue import MODELS_VARIABLE, list_models
from aime_gym.cli.console import is_watched, shell_command, show_table
from aime_gym.cli.outputs import writes
from aime_gym.download import download_model, push_model

app = SubcommandApp()
HEADER = ("name", "source", "body", "updates", "learned from", "description")
NONE = "-"


@app.command(name="list")
def list_() -> None:
    """List the models that --world-model and --policy take by name."""
    rows = [
        (
            name,
            card.source,
            card.body,
            NONE if card.updates is None else f"{card.updates:,}",
            "; ".join(map(str, card.learned_from)) or NONE,
            card.description,
        )
        for name, card in list_models().items()
    ]
    if not rows:
        print(f"There are none here. {MODELS_VARIABLE} adds folders.")
        return
    show_table(HEADER, rows)


@app.command
def download(name: tyro.conf.Positional[str], *, sha256: str | None = None) -> None:
    """Download a model into the cache, where its name finds it.

    Args:
        name: aime/NAME of one that was published with AIME, such as aime/walker-mix-visual;
            hub/USER/REPO or hub/USER/REPO/FOLDER of one on the Hugging Face hub.
        sha256: The checksum that the published archive has to have, where it is known; what is
            here already is not compared with it.
    """
    found = download_model(name, sha256=sha256, progress_bar=is_watched())
    print(f"{name} is in {found}.")


@app.command
def push(
    name: tyro.conf.Positional[str], *, repo: str, private: bool = False, replace: bool = False
) -> None:
    """Upload a model with its card to the Hugging Face hub, where `hf auth login` let you in.

    Args:
        name: A name of `aime-gym models list`, or a path to a folder with a model and its card.
        repo: USER/NAME, which is made if need be.
        private: Show it to yourself alone, if it is made.
        replace: Replace what the repository has.
    """
    address = push_model(name, repo, private=private, replace=replace)
    print(f"{name} is at {address}: aime-gym models download hub/{repo}")


@app.command
@writes(out="new_folder")
def export(
    source: tyro.conf.Positional[str],
    *,
    out: Path,
    name: str | None = None,
    published: bool = False,
) -> None:
    """Write the world model of a run as a model of its own, which AIME can start from.

    Args:
        source: A run folder of dreamer, plan2explore, aime or world-model, an archive or a name.
        out: A new folder.
        name: The model's name; by default the folder's.
        published: Write AIME's published layout, config.yaml and model.pt, instead of an archive
            with a card; for the cells rssm and rssmo.
    """
    from agents.runs.export import export_world_model, load_world_model
    from agents.world_models.publishing import write_published

    model, origin = load_world_model(source, device="cpu")
    if published:
        write_published(model, out)
        print(f"The world model of {origin} is in {out}, in the published layout.")
        if model.config.standardize:
            print("Its sensors' scales are folded in; its decoders' deviations are about the same.")
        return
    name = name or out.name
    command = shell_command("models export", {"name": name, "out": out}, [source])
    export_world_model(model, out, name, f"The world model of {origin}.", command)
    print(f"{name}, the world model of {origin}, is in {out}.")
    if model.net.idm is None:
        print("It has no inverse dynamics: `train aime` needs --start-updates 0 --action-prior 0.")
