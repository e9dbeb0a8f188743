"""Files that others wrote: read within limits, and checked before anything in them is used.

Also what makes a name, and how text of others is shown. JSON is read as the standard has it, and
written so: without NaN and infinities.
"""

from __future__ import annotations

import json
import math
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

MAX_JSON = 64 * 2**20  # Bytes.
MAX_RATIO = 1_100  # Of unpacked bytes to packed ones: more than deflate can make of anything.
MAX_MEMBERS = 100_000  # Of a zip file.
NAME = re.compile(r"\w(?:[\w.+() ,:=%-]*[\w+)%])?")
DAMAGE = (
    ValueError,
    LookupError,
    EOFError,
    NotImplementedError,
    SyntaxError,
    TypeError,
    OverflowError,
    RecursionError,
    MemoryError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What reading a file of any content may raise, a missing file and a broken disk aside."""


# Names


def check_name(name: str, what: str) -> str:
    """Refuses what is no name of a dataset, a model or a file of one.

    Names have parts divided by ``/``, as ``hub/user/repo``. A part has letters, digits, spaces and
    ``_.+(),:=%-``, starts with a letter, a digit or ``_``, and has no two dots in a row: a name is
    never a path out of a folder.

    Args:
        name: What should be a name.
        what: What it is of, for the error.

    Raises:
        ValueError: It is none.
    """
    if not is_name(name):
        raise ValueError(
            f"The name of {what} has letters, digits and -_., and no path out of its folder; got "
            f"{name[:200]!r}."
        )
    return name


def is_name(name: str) -> bool:
    """Whether `check_name` lets a name pass."""
    return len(name) <= 400 and all(
        NAME.fullmatch(part) and ".." not in part for part in name.split("/")
    )


def printable(text: str) -> str:
    """Text with everything that a terminal would obey, such as escape sequences, spelled out."""
    return "".join(
        sign if sign.isprintable() or sign == "\n" else sign.encode("unicode_escape").decode()
        for sign in text
    )


# JSON


def read_json(path: str | os.PathLike[str], what: str = "damaged, or no JSON") -> Any:
    """What a JSON file holds.

    Args:
        path: The file.
        what: What it is where it cannot be read, for the error.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, far too large, has a key twice or a number that is not finite;
            the message names it.
    """
    size = Path(path).stat().st_size
    if size > MAX_JSON:
        raise ValueError(f"{path} has {size:,} bytes; no file of its kind has more than 64 MiB.")
    return parse_json(Path(path).read_bytes(), str(path), what)


def parse_json(content: bytes | str, source: str, what: str = "damaged, or no JSON") -> Any:
    """The value of a JSON text; the errors are those of `read_json`.

    Args:
        content: The text.
        source: Where it comes from, for the error.
        what: As for `read_json`.
    """
    try:
        return json.loads(
            content,
            parse_constant=_refuse,
            parse_float=_finite,
            object_pairs_hook=_unique,
        )
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source} is {what}: {error}.") from error


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is too large a number")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("it has a key twice")
    return values


# Zip files


def check_zip(file: zipfile.ZipFile) -> None:
    """Refuses a zip file that would unpack to far more than it has, or has a member twice.

    Raises:
        ValueError: It does.
    """
    members = file.infolist()
    names = {member.filename for member in members}
    if len(members) > MAX_MEMBERS or len(names) < len(members):
        raise ValueError("it has a member twice, or more than 100,000 of them")
    for member in members:
        if member.file_size > MAX_RATIO * member.compress_size + 1:
            raise ValueError(f"{member.filename!r} is said to unpack to {member.file_size:,} bytes")
        if member.flag_bits & 1:
            raise ValueError(f"{member.filename!r} is encrypted")


def check_contents(path: Path) -> None:
    """Compares all members of a zip file with the checksums that it has of them.

    Raises:
        ValueError: The file is damaged.
    """
    with blame(path), zipfile.ZipFile(path) as file:
        check_zip(file)
        damaged = file.testzip()
        if damaged is not None:
            raise ValueError(f"its member {damaged!r} is damaged")


@contextmanager
def blame(path: str | os.PathLike[str], what: str = "damaged or truncated") -> Iterator[None]:
    """Whatever goes wrong inside the block is a file's fault.

    Args:
        path: The file.
        what: What the file then is, for the error.

    Raises:
        FileNotFoundError: The block raised it.
        ValueError: Something else went wrong; the message names the file and says what.
    """
    try:
        yield
    except DAMAGE as error:
        text = f"{error}".rstrip(".") or type(error).__name__
        if str(path) in text:
            raise ValueError(text + ".") from error
        raise ValueError(f"{path} is {what}: {text}.") from error
