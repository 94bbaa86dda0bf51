import gzip
import hashlib
import io
import os
import re
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request

import numpy as np
import pytest

from jaxdl.data import DataError, MissingData, load_images, load_text
from jaxdl.run.command import download as module
from jaxdl.run.command.download import download
from jaxdl.run.command.flags import FlagError
from jaxdl.run.command.originals import SOURCES, File, Source

BODY = np.random.default_rng(0).bytes(200_003)
OTHER = np.random.default_rng(1).bytes(200_003)


class Server:
    """Answers GET with `answer(handler)`; records the requested ranges and the number of body bytes sent."""

    def __init__(self) -> None:
        outer = self
        self.answer: Callable[[Any], None] = lambda handler: outer.give(handler, BODY)
        self.ranges: list[str | None] = []
        self.sent = 0

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.ranges.append(self.headers.get("Range"))
                outer.answer(self)

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/files"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def give(
        self,
        handler: Any,
        body: bytes,
        *,
        status: int = 200,
        cut: int | None = None,
        length: bool = True,
        **headers: str,
    ) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        if length:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        self.sent += len(body[:cut])
        handler.wfile.write(body[:cut])

    def give_part(self, handler: Any, body: bytes) -> None:
        start = int(re.fullmatch(r"bytes=(\d+)-", handler.headers["Range"])[1])  # type: ignore[index]
        span = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self.give(handler, body[start:], status=206, Content_Range=span)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def of(body: bytes, **changes: Any) -> dict[str, Source]:
    file = File("https://example.org/files/", "a.bin", len(body), hashlib.sha256(body).hexdigest())
    return {"set": Source("folder", (file,), **changes)}


def get(server: Server, tmp_path: Path, sources: Any = None) -> list[Path]:
    return download("set", tmp_path, mirror=server.url, sources=sources or of(BODY))


def kept(tmp_path: Path) -> list[str]:
    return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if not path.is_dir())


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    (path,) = get(server, tmp_path / "new")
    assert path == tmp_path / "new/folder/a.bin"
    assert path.read_bytes() == BODY
    assert get(server, tmp_path / "new") == [path]
    assert (server.ranges, server.sent, kept(tmp_path)) == ([None], len(BODY), ["new/folder/a.bin"])


def test_a_broken_download_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    server.answer = lambda handler: server.give(handler, BODY, cut=70_001)
    with pytest.raises(MissingData, match=r"files/a\.bin: .*70,001 of 200,003 bytes"):
        get(server, tmp_path)
    assert kept(tmp_path) == ["folder/a.bin.part"]
    server.answer = lambda handler: server.give_part(handler, BODY)
    (path,) = get(server, tmp_path)
    assert path.read_bytes() == BODY
    assert (server.ranges, server.sent) == ([None, "bytes=70001-"], len(BODY))  # no byte is sent twice
    assert kept(tmp_path) == ["folder/a.bin"]


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    part = tmp_path / "folder/a.bin.part"
    part.parent.mkdir()
    part.write_bytes(BODY[:70_001])
    assert get(server, tmp_path)[0].read_bytes() == BODY
    assert (server.ranges, server.sent) == (["bytes=70001-"], len(BODY))


@pytest.mark.parametrize(("part", "asked"), [(BODY, []), (BODY + b"x", [None]), (b"", [None])])
def test_a_part_of_full_length_needs_no_request_and_a_longer_one_is_discarded(
    server: Server, tmp_path: Path, part: bytes, asked: list[None]
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/a.bin.part").write_bytes(part)
    assert get(server, tmp_path)[0].read_bytes() == BODY
    assert server.ranges == asked


def flipped() -> bytes:
    body = bytearray(BODY)
    body[100_001] ^= 1
    return bytes(body)


def redirect(to: str) -> Callable[[Server, Any], None]:
    return lambda server, handler: server.give(handler, b"", status=302, Location=to)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda s, h: s.give(h, flipped()), "SHA-256 [0-9a-f]{12}.* [0-9a-f]{12}"),
        (lambda s, h: s.give(h, OTHER), "SHA-256"),
        (lambda s, h: s.give(h, BODY[:-1]), "200,002 bytes"),
        (lambda s, h: s.give(h, BODY[:-1], length=False), "200,002 bytes"),
        (lambda s, h: s.give(h, BODY + b"x"), "200,004 bytes"),
        (lambda s, h: s.give(h, BODY + b"x" * 1_000_003, length=False), "too long"),
        (lambda s, h: s.give(h, b"<html>sign in</html>", Content_Type="text/html"), "20 bytes of text/html"),
        (lambda s, h: s.give(h, BODY, status=206), "HTTP 206"),
        (lambda s, h: s.give(h, b"gone", status=404), "HTTP 404, Not Found"),
        (redirect("http://example.org/a.bin"), "redirect to http://example.org/a.bin.* not https"),
        (redirect("file:///etc/passwd"), "file:///etc/passwd"),
        (redirect("ftp://example.org/a.bin"), "redirect to ftp://example.org/a.bin.* not https"),
        (redirect("/again"), "HTTP 302"),
        (lambda s, h: h.wfile.write(b"HTTP/1.1 500 \x1b[2Jboo\r\n\r\n"), r"HTTP 500, \[2Jboo;"),
        (lambda s, h: h.wfile.write(b"nonsense\r\n\r\n"), "nonsense"),
    ],
)
def test_what_is_not_the_file_is_not_kept(server: Server, tmp_path: Path, answer: Any, message: str) -> None:
    server.answer = lambda handler: answer(server, handler)
    with pytest.raises((DataError, MissingData), match=message) as caught:
        get(server, tmp_path)
    assert kept(tmp_path) == []
    text = str(caught.value)
    assert text.isprintable()
    assert text.startswith(f"{server.url}/a.bin: ")
    assert "a.bin" in text.removeprefix(f"{server.url}/a.bin: ")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            lambda s, h: s.give(h, BODY[70_001:], status=206, Content_Range="bytes 0-9/10"),
            "bytes 0-9/10",
        ),
        (lambda s, h: s.give(h, b"", status=416), "70,001"),
        (lambda s, h: s.give_part(h, OTHER), "SHA-256"),
        (lambda s, h: s.give(h, b"<html>", Content_Type="text/html"), "6 bytes of text/html"),
    ],
)
def test_a_wrong_rest_is_not_kept(server: Server, tmp_path: Path, answer: Any, message: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/a.bin.part").write_bytes(BODY[:70_001])
    server.answer = lambda handler: answer(server, handler)
    with pytest.raises(DataError, match=message):
        get(server, tmp_path)
    assert kept(tmp_path) == []


def test_a_silent_server_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mirror = f"http://localhost:{silent.getsockname()[1]}"
        with pytest.raises(MissingData, match="timed out"):
            download("set", tmp_path, mirror=mirror, sources=of(BODY))
    with pytest.raises(MissingData, match="Connection refused"):
        download("set", tmp_path, mirror=mirror, sources=of(BODY))
    assert kept(tmp_path) == []


def test_a_redirect_on_this_machine_is_followed(server: Server, tmp_path: Path) -> None:
    def answer(handler: Any) -> None:
        if handler.path == "/files/a.bin":
            server.give(handler, b"", status=302, Location="/elsewhere")
        else:
            server.give(handler, BODY, status=200 if handler.path == "/elsewhere" else 404)

    server.answer = answer
    (path,) = download("set", tmp_path, mirror=server.url + "/", sources=of(BODY))
    assert path.read_bytes() == BODY


@pytest.mark.parametrize("url", ["http://127.0.0.1/a", "http://example.org/a", "ftp://example.org/a", "https:///a"])
def test_https_never_leads_to_less(url: str) -> None:
    hop = lambda start: module._OnlyHttps().redirect_request(Request(start), None, 302, "Found", Message(), url)
    with pytest.raises(HTTPError, match="which is not https"):
        hop("https://example.org/a")
    if "127" not in url:
        with pytest.raises(HTTPError, match="which is not https"):
            hop("http://localhost/a")


def test_https_leads_to_https() -> None:
    start = Request("https://example.org/a", headers={"Range": "bytes=7-"})
    hop = module._OnlyHttps().redirect_request(start, None, 302, "Found", Message(), "https://other.example.org/a")
    assert hop is not None
    assert (hop.full_url, hop.headers) == ("https://other.example.org/a", {"Range": "bytes=7-"})


def test_what_is_there_and_different_is_left_alone(server: Server, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/a.bin").write_bytes(OTHER)
    with pytest.raises(DataError, match=r"folder/a\.bin: .*sha256 .*--download"):
        get(server, tmp_path)
    assert (tmp_path / "folder/a.bin").read_bytes() == OTHER
    assert server.ranges == []


def test_a_copy_that_would_be_read_instead_is_named(server: Server, tmp_path: Path) -> None:
    file = File("https://example.org/", "images.gz", len(BODY), hashlib.sha256(BODY).hexdigest())
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/images").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"folder/images: .*images\.gz"):
        get(server, tmp_path, {"set": Source("folder", (file,))})


def test_a_part_that_is_a_link_is_not_followed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "diary").write_text("dear diary")
    (tmp_path / "folder/a.bin.part").symlink_to(tmp_path / "diary")
    with pytest.raises(DataError, match=r"a\.bin\.part: .*symbolic links"):
        get(server, tmp_path)
    assert (tmp_path / "diary").read_text() == "dear diary"


def test_two_downloads_at_once_do_not_mix(server: Server, tmp_path: Path) -> None:
    started, go_on = threading.Event(), threading.Event()

    def answer(handler: Any) -> None:
        started.set()
        assert go_on.wait(10)
        server.give(handler, BODY)

    server.answer = answer
    first = threading.Thread(target=get, args=(server, tmp_path))
    first.start()
    assert started.wait(10)
    with pytest.raises(MissingData, match=r"a\.bin\.part: another process"):
        get(server, tmp_path)
    go_on.set()
    first.join()
    assert (tmp_path / "folder/a.bin").read_bytes() == BODY


@pytest.mark.parametrize(
    "mirror",
    [
        "http://example.org/x",
        "http://127.0.0.1@example.org/x",
        "http://localhost.example.org/x",
        "ftp://example.org/x",
        "file:///tmp",
        "https:///x",
        "example.org/x",
        "",
    ],
)
def test_a_mirror_is_https_or_on_this_machine(mirror: str, tmp_path: Path) -> None:
    with pytest.raises(FlagError, match=r"^--mirror=.*https"):
        download("set", tmp_path, mirror=mirror, sources=of(BODY))


def test_the_flags_are_named(tmp_path: Path) -> None:
    with pytest.raises(FlagError, match=r"^--download: .*--data_dir .*JAXDL_DATA_DIR"):
        download("mnist", None)
    with pytest.raises(FlagError, match=r"^--download: usps .*mnist, fashion_mnist, cifar10"):
        download("usps", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file/mnist: Not a directory"):
        download("mnist", tmp_path / "file")


A, B = b"a" * 3001, b"b" * 5003


def archive(*entries: tuple[str, bytes] | tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for entry in entries:
            info = entry if isinstance(entry, tarfile.TarInfo) else tarfile.TarInfo(entry[0])
            content = b"" if isinstance(entry, tarfile.TarInfo) else entry[1]
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def members() -> dict[str, Any]:
    return {
        "members": {f"in/{name}": hashlib.md5(body).hexdigest() for name, body in (("a", A), ("b", B))},
        "unpacked": 70_001,
    }


def test_the_named_files_are_taken_out_of_an_archive(server: Server, tmp_path: Path) -> None:
    body = archive(special("in", tarfile.DIRTYPE), ("in/b", B), ("in/readme.html", b"hello"), ("in/a", A))
    server.answer = lambda handler: server.give(handler, body)
    sources = of(body, **members())
    paths = get(server, tmp_path, sources)
    assert [path.read_bytes() for path in paths] == [A, B]
    assert kept(tmp_path) == ["folder/in/a", "folder/in/b"]
    assert get(server, tmp_path, sources) == paths
    assert len(server.ranges) == 1
    paths[0].unlink()  # only the missing file is written again
    before = paths[1].stat().st_mtime_ns
    get(server, tmp_path, sources)
    assert (paths[0].read_bytes(), paths[1].stat().st_mtime_ns, len(server.ranges)) == (A, before, 2)
    paths[1].write_bytes(A)
    with pytest.raises(DataError, match=r"in/b: .*md5"):
        get(server, tmp_path, sources)


def test_an_archive_that_is_there_is_used_and_left(server: Server, tmp_path: Path) -> None:
    body = archive(("in/a", A), ("in/b", B))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/a.bin").write_bytes(body)
    get(server, tmp_path, of(body, **members()))
    assert (server.ranges, kept(tmp_path)) == ([], ["folder/a.bin", "folder/in/a", "folder/in/b"])


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([("in/a", A), ("../b", B), ("in/b", B)], r"'\.\./b'"),
        ([("in/a", A), ("in/../../b", B), ("in/b", B)], r"'in/\.\./\.\./b'"),
        ([("in/a", A), ("/tmp/b", B), ("in/b", B)], "'/tmp/b'"),
        ([special("in/a", tarfile.SYMTYPE, "/etc/passwd"), ("in/b", B)], "'in/a'"),
        ([special("in", tarfile.SYMTYPE, "/tmp"), ("in/a", A), ("in/b", B)], "'in'"),
        ([("in/b", B), special("in/a", tarfile.LNKTYPE, "in/b")], "'in/a'"),
        ([("in/a", A), special("in/b", tarfile.FIFOTYPE)], "'in/b'"),
        ([("in/a", A), special("in/b", tarfile.CHRTYPE)], "'in/b'"),
        ([special("in/a", tarfile.DIRTYPE), ("in/b", B)], "original in/a"),
        ([("in/a", A), ("in/b", bytes(40_000_000))], "70,001 bytes"),
        ([("in/a", A), ("bomb", bytes(40_000_000)), ("in/b", B)], "70,001 bytes"),
        ([(f"{i}", b"") for i in range(103)], "too many files"),
        ([("in/a", A)], "original in/b"),
        ([("in/a", A), ("in/b", B[1:])], "original in/b"),
        ([("in/a", A), ("in/b", B), ("in/b", A)], "original in/b"),
    ],
)
def test_a_forged_archive_is_refused(server: Server, tmp_path: Path, entries: Any, message: str) -> None:
    """Even if its SHA-256 is the pinned one."""
    body = archive(*entries)
    server.answer = lambda handler: server.give(handler, body)
    with pytest.raises(DataError, match=message):
        get(server, tmp_path, of(body, **members()))
    assert kept(tmp_path) == []


@pytest.mark.parametrize(
    "body",
    [b"no gzip at all", gzip.compress(b"no tar" * 1000), archive(("in/a", A))[:-20]],
    ids=["no gzip", "no tar", "cut"],  # the bytes contain the time, but all workers must collect the same test names
)
def test_a_broken_archive_is_refused(server: Server, tmp_path: Path, body: bytes) -> None:
    server.answer = lambda handler: server.give(handler, body)
    with pytest.raises(DataError, match=r"a\.bin\.part: .*(broken archive|original in/b)"):
        get(server, tmp_path, of(body, **members()))
    assert kept(tmp_path) == []


def test_every_source_is_https_and_pinned() -> None:
    for source in SOURCES.values():
        for file in source.files:
            assert re.fullmatch(r"https://[a-z.]+/(.+/)?", file.url)
            assert re.fullmatch("[0-9a-f]{64}", file.sha256)
            assert 0 < file.size < 200_000_000
        assert bool(source.members) == bool(source.unpacked)
        assert all(re.fullmatch("[0-9a-f]{32}", md5) for md5 in source.members.values())


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "tinyshakespeare"])
def test_the_pinned_files_are_those_that_the_readers_read(
    server: Server, tmp_path: Path, data_dir: Path, name: str
) -> None:
    source = SOURCES[name]
    server.answer = lambda h: server.give(h, (data_dir / source.folder / os.path.basename(h.path)).read_bytes())
    paths = download(name, tmp_path, mirror=server.url)
    assert len(paths) == len(server.ranges) == (1 if name == "tinyshakespeare" else 4)
    if name == "tinyshakespeare":
        assert str(tmp_path) in load_text(name, tmp_path).note
    else:
        note = load_images(name, tmp_path).note
        assert str(tmp_path) in note
        assert "not the original" not in note


def test_the_md5_of_cifar_batches_are_those_of_the_files(data_dir: Path) -> None:
    for name in ("data_batch_1", "test_batch"):
        path = data_dir / "cifar10/cifar-10-batches-py" / name
        assert module._is_there(path, "md5", SOURCES["cifar10"].members[f"cifar-10-batches-py/{name}"])
