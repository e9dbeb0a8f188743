"""Datasets and models on the Hugging Face hub, one folder each: fetched, and pushed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import yaml
from tqdm import tqdm

from aime_gym.card import CARD, NO_LICENSE, Card, Kind, check_files
from aime_gym.catalogue import HUB, cache_folder, read_card_of
from aime_gym.download.archives import safe_path, unpack_as
from aime_gym.download.contents import has, is_marked
from aime_gym.download.transfer import explain_full_disk
from aime_gym.files import locked

if TYPE_CHECKING:
    from huggingface_hub import HfApi

README, ATTRIBUTES = "README.md", ".gitattributes"
OF_THE_HUB = {README, ATTRIBUTES}  # Files that say nothing of whether there is data.
CLIENT_CACHE = ".cache"  # The hub's client keeps notes there.
ARCHIVES = (".tgz", ".tar.gz", ".zip")
REPO = re.compile(r"\w[\w.-]*/\w[\w.-]*")
MANY = 8  # Names that an error lists.


@dataclass(frozen=True)
class HubName:
    """``hub/user/repo``, or ``hub/user/repo/folder``: a repository, and a folder in it.

    Attributes:
        repo: Such as ``"user/walker-toy"``.
        folder: Within the repository; empty for all of it.
    """

    repo: str
    folder: str = ""

    @classmethod
    def parse(cls, name: str) -> HubName:
        """Reads a name.

        Raises:
            ValueError: It has another form.
        """
        parts = name.split("/")
        plain = all(re.fullmatch(r"\w[\w.-]*", part) for part in parts)
        if parts[0] != HUB or len(parts) < 3 or not plain:
            raise ValueError(f"A name on the hub is {HUB}/<user>/<repo>[/<folder>], not {name!r}.")
        return cls("/".join(parts[1:3]), "/".join(parts[3:]))

    def __str__(self) -> str:
        return "/".join(filter(None, (HUB, self.repo, self.folder)))


def fetch_from_hub(
    name: HubName,
    kind: Kind,
    folder: Path,
    *,
    announce: Callable[[str, str], None],
    progress_bar: bool = False,
) -> Path:
    """Downloads a folder of a repository into a new folder, which appears once it is whole.

    A folder in a repository may be stored as an archive, ``<folder>.tgz`` or ``.zip``. Files are
    compared with the checksums of their card, where there is one. What has come before an error
    stays in the cache, and the next call goes on from there.

    Args:
        name: What to download.
        kind: Whether the repository is one of datasets or of models.
        folder: Where it goes. One that is there already is left as it is.
        announce: Called with the address and the license before the download starts.
        progress_bar: Show the progress.

    Raises:
        FileExistsError: The folder is there, and has something else.
        ModuleNotFoundError: huggingface_hub is missing; the message says what to install.
        OSError: The hub cannot be reached, has no such repository, or does not let this user see
            it; or the disk is full.
        ValueError: The repository has nothing of this kind there, and the message lists what it
            has; the files are damaged; or the hub has no repositories of such a name.
    """
    downloads, key = cache_folder() / "downloads", f"{kind}-{quote(str(name), safe='')}"
    with locked(downloads / f".{key}.lock"), hub_client() as api:
        if folder.exists():
            if not has(kind, folder):
                raise FileExistsError(f"{folder} has something else than {name}; move it away.")
            return folder
        info: Any = api.repo_info(name.repo, repo_type=kind)
        files = [sibling.rfilename for sibling in info.siblings or ()]
        wanted = _choose(name, kind, files)
        announce(_address(api, kind, name.repo), _license(info))
        staging = downloads / f"{key}-{info.sha}"
        with explain_full_disk(f"{staging} keeps what has come: make room, and start again."):
            api.snapshot_download(
                name.repo,
                repo_type=kind,
                revision=info.sha,
                local_dir=staging,
                allow_patterns=wanted,
                tqdm_class=tqdm if progress_bar else _NoBar,
            )
        try:
            _place(staging, wanted, name, kind, folder, progress_bar)
        except (ValueError, FileNotFoundError):
            shutil.rmtree(staging)
            raise
        shutil.rmtree(staging, ignore_errors=True)  # It has become the folder, or is empty.
    return folder


def push_to_hub(
    kind: Kind, folder: Path, repo: str, *, private: bool = False, replace: bool = False
) -> str:
    """Uploads a folder with a card, and a README made from the card, in one commit.

    Args:
        kind: Whether this is a dataset or a model.
        folder: Has a card, and the files that the card names.
        repo: ``"user/name"``; made if need be.
        private: Show it to its owner alone, if it is made.
        replace: Replace what the repository has.

    Returns:
        The repository's address.

    Raises:
        FileExistsError: The repository has files, and `replace` is False.
        FileNotFoundError: The folder has no card, or a file that the card names is missing.
        ModuleNotFoundError: huggingface_hub is missing; the message says what to install.
        OSError: The hub cannot be reached, or does not let this user write there.
        ValueError: `repo` has another form, the card names no files, or a file is damaged.
    """
    if not REPO.fullmatch(repo):
        raise ValueError(f"A repository is <user>/<name>, not {repo!r}.")
    card = read_card_of(kind, folder)
    if not card.sha256:
        raise ValueError(f"{folder / CARD} has no checksums: the {kind} is not finished.")
    check_files(folder, card, alone=False)  # Others are not sent.
    with hub_client() as api:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        api.create_repo(repo, repo_type=kind, private=private, exist_ok=True)
        address = _address(api, kind, repo)
        present = set(api.list_repo_files(repo, repo_type=kind)) - OF_THE_HUB
        if present and not replace:
            raise FileExistsError(f"{address} has {_listed(present)}; replace=True replaces all.")
        names = [CARD, *card.sha256]
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            CommitOperationAdd(README, readme(card, repo).encode()),
            *(CommitOperationAdd(name, folder / name) for name in names),
            *(CommitOperationDelete(name) for name in sorted(present - set(names))),
        ]
        api.create_commit(repo, operations, commit_message=f"Add {card.name}", repo_type=kind)
    return address


def readme(card: Card, repo: str) -> str:
    """The page of a repository, in Markdown; the hub reads its head.

    Args:
        card: What the repository has.
        repo: ``"user/name"``.
    """
    head = {
        "license": "unknown" if card.license == NO_LICENSE else card.license.lower(),
        "pretty_name": card.name,
        "tags": ["aime-gym", "imitation-learning", card.body],
    }
    facts = {
        "body": card.body,
        "environment": card.env_id,
        "made by": card.command and f"`{card.command}`",
        "seed": card.seed,
        "versions": ", ".join(f"{package} {number}" for package, number in card.versions.items()),
        "mixed from": ", ".join(card.parts),
        "learned from": "; ".join(map(str, card.learned_from)),
        "gradient updates": card.updates,
        "license": card.license,
    }
    rows = [f"| {key} | {value} |" for key, value in facts.items() if value not in (None, "")]
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
        f"# {card.name}",
        card.description,
        "\n".join(["| | |", "| --- | --- |", *rows]),
        f"```console\naime-gym {card.kind}s download {HubName(repo)}\n```",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


@contextmanager
def hub_client() -> Iterator[HfApi]:
    """The hub's client, which knows the user's own login.

    Raises:
        ConnectionError: The hub cannot be reached.
        ModuleNotFoundError: huggingface_hub is missing; the message says what to install.
        ValueError: The hub has no repositories of such a name.
    """
    try:
        import httpx2
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HFValidationError
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "The hub needs huggingface_hub: pip install 'aime-gym[hub]'."
        ) from error
    api = HfApi(library_name="aime-gym")
    try:
        yield api
    except httpx2.TransportError as error:
        raise ConnectionError(f"{api.endpoint} cannot be reached: {error}.") from error
    except HFValidationError as error:
        raise ValueError(f"The hub refuses the name: {error}") from error


class _NoBar(tqdm):  # type: ignore[misc]
    """Shows nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "disable": True})


def _choose(name: HubName, kind: Kind, files: list[str]) -> list[str]:
    """The files of a folder in a repository, or the one archive that it is stored as."""
    folders: dict[str, set[str]] = {}
    for file in files:
        path = safe_path(file, str(name))
        folders.setdefault("/".join(path.parts[:-1]), set()).add(path.name)
    marked = {folder for folder, names in folders.items() if is_marked(kind, names)}
    if name.folder in marked:
        start = f"{name.folder}/" if name.folder else ""
        return [file for file in files if file.startswith(start) and file != ATTRIBUTES]
    ends = ((file, end) for file in files for end in ARCHIVES if file.endswith(end))
    archives = {file.removesuffix(end): file for file, end in ends}
    if name.folder in archives:
        return [archives[name.folder]]
    others = _listed({str(HubName(name.repo, folder)) for folder in marked | set(archives)})
    raise ValueError(f"{name} is no {kind}{f'; there are {others}' if others else ''}.")


def _place(
    staging: Path, wanted: list[str], name: HubName, kind: Kind, folder: Path, progress_bar: bool
) -> None:
    """Checks what has come, and moves it to its place."""
    missing = [file for file in wanted if not (staging / file).is_file()]
    if missing:
        raise FileNotFoundError(f"The hub did not send {_listed(missing)} of {name}.")
    root = staging / name.folder
    if not root.is_dir():
        unpack_as(staging / wanted[0], folder, partial(has, kind), progress_bar)
        return
    if (root / CARD).is_file():
        check_files(root, read_card_of(kind, root))
    shutil.rmtree(staging / CLIENT_CACHE, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    root.replace(folder)


def _address(api: HfApi, kind: Kind, repo: str) -> str:
    return f"{api.endpoint}/{'datasets/' if kind == 'dataset' else ''}{repo}"


def _license(info: Any) -> str:
    """What a repository's head says, as text."""
    stated = info.card_data.license if info.card_data else None
    return ", ".join(stated) if isinstance(stated, list) else stated or "not stated"


def _listed(names: Iterable[str]) -> str:
    """Some names as text, in order, and that there are more."""
    first, *others = sorted(names)[: MANY + 1] or [""]
    return ", ".join([first, *others[: MANY - 1], *(["..."] if len(others) == MANY else [])])
