import base64
import hashlib
import io
import json
import tarfile
import threading
import zipfile
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import numpy as np
import pytest
from huggingface_hub import constants

from aime_gym.datasets import Card, Dataset, Trajectory
from aime_gym.download import transfer

HERE = "127.0.0.1"


class Web:
    """Files on a server of this machine, which can be told to misbehave.

    Attributes:
        files: Path -> content.
        requests: (path, the Range header or None) of every request so far.
        stalls: After how many bytes the next connections wait for `go_on`.
        cuts: After how many bytes the next connections break; those after these are whole.
        ranges: Whether the server can send a part of a file.
        shift: How far the parts that it sends start from where they should.
        version: How the server names the version of a file: "ETag", "weak", "date" or None.
        statuses: The status of the next answers, instead of the files.
    """

    def __init__(self):
        self.files, self.requests, self.statuses = {}, [], []
        self.cuts, self.stalls, self.go_on = [], [], threading.Event()
        self.ranges = self.lengths = True
        self.shift, self.version = 0, "ETag"
        self.url = ""

    def answer(self, request):
        asked, content = request.headers.get("Range"), self.files.get(request.path)
        self.requests.append((request.path, asked))
        status = self.statuses.pop(0) if self.statuses else 200 if content is not None else 404
        if status != 200:
            request.send_error(status)
            return
        start, tag = 0, f'"{hashlib.md5(content).hexdigest()}"'
        versions = {
            "ETag": ("ETag", tag),
            "weak": ("ETag", f"W/{tag}"),
            "date": ("Last-Modified", f"Sun, 01 Nov 2026 00:{len(content) % 60:02}:00 GMT"),
        }
        header, version = versions.get(self.version, (None, None))
        cut = self.cuts.pop(0) if self.cuts else None
        if asked and self.ranges and request.headers.get("If-Range") in (None, version):
            start = int(asked.removeprefix("bytes=").removesuffix("-")) + self.shift
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if header:
            request.send_header(header, version)
        if self.lengths:
            request.send_header("Content-Length", str(len(content) - start))
        request.end_headers()
        if self.stalls:
            stall = start + self.stalls.pop(0)
            request.wfile.write(content[start:stall])
            self.go_on.wait(60)
            start = stall
        request.wfile.write(content[start:][:cut])


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """Neither the user's folders nor the user's settings."""
    for name in ("CACHE", "DATA", "MODELS"):
        monkeypatch.setenv(f"AIME_GYM_{name}", str(tmp_path / name.lower()))
    for name in ("DEBUG", "RELEASES"):
        monkeypatch.delenv(f"AIME_GYM_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def toys():
    """A dataset of two short trajectories of numbers."""
    rng = np.random.default_rng(0)

    def toy(rows):
        return Trajectory(
            sensors={"height": rng.normal(size=(rows, 1)).astype(np.float32)},
            actions=rng.uniform(-1, 1, (rows - 1, 2)).astype(np.float32),
            rewards=rng.uniform(size=rows - 1).astype(np.float32),
        )

    return Dataset(
        [toy(4), toy(5)], Card("walker-toy", "walker", command="make", license="CC0-1.0")
    )


@pytest.fixture
def packed_folder(tgz):
    """A function that packs a folder as ``.tgz``, with its name at the top, or without."""

    def pack(folder, top=""):
        files = {
            top + path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        return tgz(files)

    return pack


@pytest.fixture
def web(monkeypatch):
    """A server without files."""
    monkeypatch.setattr(transfer, "PAUSE", 0.01)
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            web.answer(self)

        def log_message(self, *_):
            pass

    with closing(serve(Handler)) as server:
        web.url = server.url
        yield web


class serve:  # noqa: N801
    """A server on this machine, until it is closed."""

    def __init__(self, handler):
        self.server = ThreadingHTTPServer((HERE, 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://{HERE}:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def tgz():
    """A function that packs files, and further members, as ``.tgz``."""

    def pack(files, *members):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            for member in members:
                archive.addfile(member)
        return buffer.getvalue()

    return pack


@pytest.fixture
def zipped():
    """A function that packs files as ``.zip``; a name may be a ZipInfo."""

    def pack(files):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return buffer.getvalue()

    return pack


class Hub:
    """A small hub: repositories of files, of which everyone may read all, and a user may write.

    Attributes:
        repos: (kind, "user/name") -> name -> content.
        license: What the heads of all repositories say.
        requests: Method and path of every request so far.
        cuts: After how many bytes the next files break off.
        unlisted: Names that the hub leaves out when it lists what is to be downloaded.
        created: What the client asked for, for every repository that it made.
    """

    def __init__(self):
        self.repos, self.requests, self.cuts, self.created = {}, [], [], []
        self.license, self.unlisted = "cc-by-4.0", set()

    def get(self, request, path):
        if not path.startswith(("/api/", "/datasets/")):
            path = f"/models{path}"  # Where the files of models are.
        match path.removeprefix("/api").split("/")[1:]:
            case [kinds, user, name, *rest] if kinds in ("datasets", "models"):
                files = self.repos.get((kinds[:-1], f"{user}/{name}"))
            case _:
                files, rest, kinds = None, [], ""
        if files is None:
            return reply(request, {"error": "Repository not found"}, 404, "RepoNotFound")
        match rest:
            case [] | ["revision", _]:
                siblings = [{"rfilename": each} for each in files]
                card = {"license": self.license}
                return reply(
                    request,
                    {"id": f"{user}/{name}", "sha": SHA, "siblings": siblings, "cardData": card},
                )
            case ["tree", _]:
                listing = [
                    {"type": "file", "path": each, "size": len(content), "oid": oid(content)}
                    for each, content in files.items()
                    if each not in self.unlisted
                ]
                return reply(request, listing)
            case ["resolve", _, *parts]:
                return self.send(request, files["/".join(parts)])
        return reply(request, {}, 404)

    def send(self, request, content):
        asked = request.headers.get("Range")
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        request.send_response(206 if asked else 200)
        request.send_header("ETag", f'"{oid(content)}"')
        request.send_header("X-Repo-Commit", SHA)
        request.send_header("Content-Length", str(len(content) - start))
        if asked:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        request.end_headers()
        if request.command == "GET":
            cut = self.cuts.pop(0) if self.cuts else None
            request.wfile.write(content[start:][:cut])

    def post(self, request, path, body):
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return reply(request, {"error": "Invalid username or password."}, 401)
        match path.split("/")[2:]:
            case ["repos", "create"]:
                values = json.loads(body)
                self.created.append(values)
                repo = f"{values['organization']}/{values['name']}"
                key = values.get("type", "model"), repo
                status = 409 if key in self.repos else 200
                self.repos.setdefault(key, {ATTRIBUTES: b""})
                return reply(request, {"url": f"{self.url}/{repo}"}, status)
            case ["validate-yaml"]:
                return reply(request, {"errors": [], "warnings": []})
            case [kinds, user, name, "preupload", _]:
                files = json.loads(body)["files"]
                modes = [
                    {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for each in files
                ]
                return reply(request, {"files": modes})
            case [kinds, user, name, "commit", _]:
                files = self.repos[kinds[:-1], f"{user}/{name}"]
                for line in map(json.loads, body.splitlines()):
                    value = line["value"]
                    if line["key"] == "file":
                        files[value["path"]] = base64.b64decode(value["content"])
                    elif line["key"] == "deletedFile":
                        del files[value["path"]]
                url = f"{self.url}/{user}/{name}/commit/{SHA}"
                commit = {"commitUrl": url, "commitOid": SHA}
                return reply(request, commit)
        return reply(request, {}, 404)


SHA, TOKEN, ATTRIBUTES = "0123456789abcdef0123456789abcdef01234567", "hf_test", ".gitattributes"


def oid(content):
    """The name of a file's content in git."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def reply(request, values, status=200, error=None):
    """Answers in JSON."""
    body = json.dumps(values).encode()
    request.send_response(status)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(body)))
    if error is not None:
        request.send_header("X-Error-Code", error)
    request.end_headers()
    request.wfile.write(body)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub without repositories, whose user is logged in."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = urlsplit(self.path).path
            hub.requests.append(f"{self.command} {path}")
            hub.get(self, path)

        do_HEAD = do_GET  # noqa: N815

        def do_POST(self):
            hub.requests.append(f"POST {self.path}")
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hub.post(self, urlsplit(self.path).path, body)

        def log_message(self, *_):
            pass

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with closing(serve(Handler)) as server:
        hub.url = server.url
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
        )
        yield hub
