"""Downloads original data files over https; checks each against its published size and SHA-256 before use."""

import fcntl
import gzip
import hashlib
import ipaddress
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

from jaxdl.data import DataError, MissingData
from jaxdl.run.command.flags import FlagError
from jaxdl.run.command.originals import SOURCES, File, Source

TIMEOUT = 30.0  # seconds without a byte
CHUNK = 1 << 16
MOST_ENTRIES = 100  # of an archive; that of CIFAR-10 has 9


def download(
    name: str,
    data_dir: str | Path | None,
    *,
    mirror: str | None = None,
    progress: bool = True,
    sources: Mapping[str, Source] = SOURCES,
) -> list[Path]:
    """Downloads the original files of a data set to the folder from which its reader loads them.

    A correct file is not downloaded again, and a different file is never overwritten. An interrupted download stays in
    FILE.part and is resumed; a downloaded file of another size or SHA-256 is deleted.

    Args:
      name: a key of `sources`.
      data_dir: the folder of data files; created if missing.
      mirror: URL of a folder with the same files, instead of the published one; https, or http on this machine.
      progress: whether to show a progress bar on a terminal.
      sources: the data sets that can be downloaded.

    Returns:
      The paths of the files.

    Raises:
      FlagError: the data set is unknown, data_dir is missing, or the mirror is not a valid URL.
      MissingData: a file could not be downloaded.
      DataError: a file, downloaded or already present, is not the original; or it cannot be written.
    """
    if name not in sources:
        raise FlagError(f"--download: {name} cannot be downloaded; available: {', '.join(sources)}")
    if not data_dir:
        raise FlagError("--download: needs --data_dir or JAXDL_DATA_DIR, the folder for the files")
    if mirror is not None and not (_is_https(mirror) or _is_loopback(mirror)):
        raise FlagError(f"--mirror={mirror}: must be https://HOST/FOLDER (http only on this machine)")
    source, folder = sources[name], Path(data_dir) / sources[name].folder
    fetch = lambda file, use: _fetch(file, mirror.rstrip("/") + "/" if mirror else file.url, folder, progress, use)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if source.members:
            return _members(source, folder, fetch)
        for file in source.files:
            path, plain = folder / file.name, folder / file.name.removesuffix(".gz")
            if plain != path and plain.exists():
                raise DataError(
                    f"{plain}: would be read instead of {path.name}; move it away, or leave out --download to read it"
                )
            if not _is_there(path, "sha256", file.sha256):
                fetch(file, lambda part: os.replace(part, path))
        return [folder / file.name for file in source.files]
    except MissingData:
        raise
    except OSError as e:
        raise DataError(f"{e.filename or folder}: {e.strerror or e}; check the disk and its permissions") from e


def _is_https(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" and bool(parts.hostname)


def _is_loopback(url: str) -> bool:
    """Whether this is plain http to this machine."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    with suppress(ValueError):
        return parts.scheme == "http" and (host == "localhost" or ipaddress.ip_address(host).is_loopback)
    return False


class _OnlyHttps(HTTPRedirectHandler):
    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        if _is_https(newurl) or (_is_loopback(newurl) and _is_loopback(req.full_url)):
            return super().redirect_request(req, fp, code, msg, headers, newurl)
        raise HTTPError(req.full_url, code, f"redirect to {newurl}, which is not https", headers, fp)


def _opener(url: str) -> OpenerDirector:
    return build_opener(_OnlyHttps, *([ProxyHandler({})] if _is_loopback(url) else []))


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, kind).hexdigest()


def _is_there(path: Path, kind: str, digest: str) -> bool:
    if not path.exists():
        return False
    if path.is_dir() or (found := _digest(path, kind)) != digest:
        what = "is a folder" if path.is_dir() else f"has the {kind} {found[:12]}..., the original {digest[:12]}..."
        raise DataError(f"{path}: {what}; move it away, or leave out --download to read it as it is")
    return True


def _fetch(file: File, base: str, folder: Path, progress: bool, use: Callable[[Path], Any]) -> None:
    """Completes FILE.part, checks it and passes it to `use`; keeps it only if the connection broke."""
    part, url = folder / f"{file.name}.part", base + file.name
    # not through a link, which could point to any file of the user
    with open(part, "ab", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW, 0o666)) as out:
        try:
            fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise MissingData(f"{part}: another process is downloading it; start again when it has finished") from e
        try:
            done = os.fstat(out.fileno()).st_size
            if done > file.size:
                done = out.truncate(0)
            if done < file.size:
                unit = {"unit": "B", "unit_scale": True, "disable": None if progress else True}
                from tqdm import tqdm

                with tqdm(desc=file.name, total=file.size, initial=done, **unit) as bar:
                    for at, chunk in _pieces(url, file, done):
                        if at == 0:
                            out.truncate(0)
                        out.write(chunk)
                        bar.update(at + len(chunk) - bar.n)
            out.flush()
            os.fsync(out.fileno())  # otherwise a power cut could leave an empty file under the final name
            if (found := _digest(part, "sha256")) != file.sha256:
                raise _wrong(url, file, f"has the SHA-256 {found[:12]}..., the original {file.sha256[:12]}...")
            use(part)
        except DataError:
            part.unlink()
            raise
        finally:
            out.flush()
            if part.exists() and part.stat().st_size == 0:
                part.unlink()


def _pieces(url: str, file: File, done: int) -> Iterator[tuple[int, bytes]]:
    """Yields (position, bytes) from `done`, or from 0 if the server does not support ranges."""
    asked = {"Range": f"bytes={done}-"} if done else {}
    try:
        with _opener(url).open(Request(url, headers={"User-Agent": "jaxdl"} | asked), timeout=TIMEOUT) as answer:
            if answer.status == 206 and done:
                span, right = answer.headers.get("Content-Range", ""), f"bytes {done}-{file.size - 1}/{file.size}"
                if span != right:
                    raise _wrong(url, file, f"sent {_line(span)!r} instead of {right!r}")
            elif answer.status == 200:
                done = 0
            else:
                raise _wrong(url, file, f"answered with HTTP {answer.status}")
            announced = None if answer.length is None else done + answer.length
            if announced not in (None, file.size):
                kind = _line(answer.headers.get_content_type())
                raise _wrong(url, file, f"announces {announced:,} bytes of {kind}")
            while chunk := answer.read(min(CHUNK, file.size - done + 1)):
                if done + len(chunk) > file.size:
                    raise _wrong(url, file, "is too long")
                yield done, chunk
                done += len(chunk)
        if done < file.size and announced is None:
            raise _wrong(url, file, f"ends after {done:,} bytes")
        if done < file.size:
            raise _lost(url, file, f"the connection broke after {done:,} of {file.size:,} bytes")
    except HTTPError as e:
        if e.code == 416:  # the file on the server is shorter than the part downloaded earlier
            raise _wrong(url, file, f"has no byte {done:,}") from e
        raise _lost(url, file, f"HTTP {e.code}, {_line(e.reason)}") from e
    except MissingData:
        raise
    except (OSError, HTTPException) as e:
        raise _lost(url, file, _line(getattr(e, "reason", e)) or type(e).__name__) from e


def _wrong(url: str, file: File, problem: str) -> DataError:
    advice = "nothing was kept; try again, give another --mirror=URL, or copy the original file by hand"
    return DataError(f"{url}: {problem}, but the published {file.name} has {file.size:,} bytes; {advice}")


def _lost(url: str, file: File, problem: str) -> MissingData:
    return MissingData(f"{url}: {problem}; start again to continue, give --mirror=URL, or copy {file.name} by hand")


def _line(text: Any) -> str:
    """Makes a server's text harmless for a terminal."""
    return "".join(c for c in " ".join(str(text).split()) if c.isprintable())[:200]


def _members(source: Source, folder: Path, fetch: Callable[[File, Callable[[Path], Any]], None]) -> list[Path]:
    (file,) = source.files
    wanted = {name: md5 for name, md5 in source.members.items() if not _is_there(folder / name, "md5", md5)}

    def use(part: Path) -> None:
        _unpack(part, folder, wanted, source.unpacked)
        part.unlink()

    if wanted and _is_there(folder / file.name, "sha256", file.sha256):  # the user's own file, which is kept
        _unpack(folder / file.name, folder, wanted, source.unpacked)
    elif wanted:
        fetch(file, use)
    return [folder / name for name in source.members]


def _bounded(stream: gzip.GzipFile, archive: Path, limit: int) -> Any:
    """Returns a stream for `tarfile` that raises DataError after `limit` bytes in total."""

    def read(count: int) -> bytes:
        data = stream.read(count)
        if stream.tell() > limit:
            raise DataError(f"{archive}: unpacks to more than {limit:,} bytes; not the published archive")
        return data

    return SimpleNamespace(read=read)


def _unpack(archive: Path, folder: Path, wanted: Mapping[str, str], limit: int) -> None:
    """Extracts the files `wanted` (name -> md5) from a .tar.gz: all of them or none.

    Paths come from `wanted`, never from the archive. Links, devices and names outside of the folder are refused
    nevertheless, because the published archive has none.
    """
    parts: dict[str, Path] = {}
    try:
        with gzip.open(archive) as raw, tarfile.open(fileobj=_bounded(raw, archive, limit), mode="r|") as tar:
            for i, entry in enumerate(tar):
                leads_out = entry.name.startswith("/") or ".." in PurePosixPath(entry.name).parts
                if i >= MOST_ENTRIES or leads_out or not (entry.isreg() or entry.isdir()):
                    what = (
                        "too many files" if i >= MOST_ENTRIES else f"{_line(entry.name)!r}, which is not a plain file"
                    )
                    raise DataError(f"{archive}: contains {what}; not the published archive")
                stream = tar.extractfile(entry) if entry.name in wanted and entry.isreg() else None
                if stream is not None:
                    parts[entry.name] = folder / f"{entry.name}.part"
                    parts[entry.name].parent.mkdir(exist_ok=True)
                    parts[entry.name].unlink(missing_ok=True)
                    with parts[entry.name].open("xb") as out:
                        shutil.copyfileobj(stream, out)
        for name, md5 in wanted.items():
            if name not in parts or _digest(parts[name], "md5") != md5:
                raise DataError(f"{archive}: lacks the original {name}; not the published archive")
        for name, part in parts.items():
            os.replace(part, folder / name)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as e:
        raise DataError(f"{archive}: broken archive ({_line(e)}); nothing was kept; start again") from e
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
