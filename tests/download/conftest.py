import hashlib
import io
import tarfile
import threading
import zipfile
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from aime_gym.download import transfer


class Web:
    """Files on a server of this machine, which can be told to misbehave.

    Attributes:
        files: Path -> content.
        requests: (path, the Range header or None) of every request so far.
        stalls: After how many bytes the next connections wait for `go_on`.
        cuts: After how many bytes the next connections break; those after these are whole.
        ranges: Whether the server can send a part of a file.
        versions: Whether the server names the version of a file.
        statuses: The status of the next answers, instead of the files.
    """

    def __init__(self):
        self.files, self.requests, self.statuses = {}, [], []
        self.cuts, self.stalls, self.go_on = [], [], threading.Event()
        self.ranges = self.versions = self.lengths = True
        self.url = ""

    def answer(self, request):
        asked, content = request.headers.get("Range"), self.files.get(request.path)
        self.requests.append((request.path, asked))
        status = self.statuses.pop(0) if self.statuses else 200 if content is not None else 404
        if status != 200:
            request.send_error(status)
            return
        tag, start = f'"{hashlib.md5(content).hexdigest()}"', 0
        cut = self.cuts.pop(0) if self.cuts else None
        if asked and self.ranges and request.headers.get("If-Range") in (None, tag):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.versions:
            request.send_header("ETag", tag)
        if self.lengths:
            request.send_header("Content-Length", str(len(content) - start))
        request.end_headers()
        if self.stalls:
            stall = start + self.stalls.pop(0)
            request.wfile.write(content[start:stall])
            self.go_on.wait(60)
            start = stall
        request.wfile.write(content[start:][:cut])


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
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
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
