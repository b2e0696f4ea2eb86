"""Fetching the corpora that their owners let anyone download."""

from __future__ import annotations

import json
import shutil
import stat
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

from graphophone.corpora.base import CorpusError
from graphophone.registry import did_you_mean

if TYPE_CHECKING:
    import requests


@dataclass(frozen=True)
class Archive:
    """A ZIP file that holds a corpus.

    Attributes:
        url: Folder of the file on its owner's server.
        file: Its name.
        checksum: As published there, with the name of the algorithm: ``"md5:..."``.
        size: Bytes to download.
        unpacked: Bytes that its content takes, about.
        licence: What the user agrees to.
    """

    url: str
    file: str
    checksum: str
    size: int
    unpacked: int
    licence: str


ARCHIVES: dict[str, Archive] = {
    "emodb": Archive(
        url="https://zenodo.org/records/7447302/files",
        file="emodb.zip",
        checksum="md5:9d21362dbc5676ef3ab4745d83ced0db",
        size=39_981_818,
        unpacked=50_000_000,
        licence="CC BY 4.0",
    ),
    "ravdess": Archive(
        url="https://zenodo.org/records/1188976/files",
        file="Audio_Speech_Actors_01-24.zip",
        checksum="md5:bc696df654c87fed845eb13823edef8a",
        size=208_468_073,
        unpacked=600_000_000,
        licence="CC BY-NC-SA 4.0",
    ),
}
"""Corpora that :func:`download` knows."""

_ATTEMPTS = 5
_PAUSE = 1.0  # seconds before the second attempt; doubled before each further one
_READ = 1 << 14  # bytes; what has arrived of a block when the connection breaks is lost
_COPY = 1 << 20
_TIMEOUT = (15.0, 60.0)  # seconds to connect; seconds without a byte


class DownloadError(CorpusError):
    """A corpus could not be fetched; the text says from where and what to do."""


def download(name: str, root: str | Path, *, base_url: str | None = None, progress: bool | None = None) -> Path:
    """Fetch a corpus and unpack it.

    A transfer that was cut is taken up where it stopped, by further attempts of this call or by the next
    call. The archive is believed only if it has the published checksum, and is deleted once its content is in
    place; what is already there, complete, is not fetched again.

    Args:
        name: ``"ravdess"`` (208 MB, 0.6 GB unpacked) or ``"emodb"`` (40 MB).
        root: Folder to unpack into, made where it is not there; what :func:`graphophone.corpora.load` then
            takes.
        base_url: Folder of a mirror to fetch the archive from instead of its owner's. The checksum is the
            same.
        progress: Whether to show a progress bar on standard error; by default where that is a terminal.

    Returns:
        The folder.

    Raises:
        DownloadError: If the corpus may not be fetched freely, the server does not answer or has no such
        file, the
            checksum is wrong, the disk is full, or the archive is not safe to unpack.
    """
    archive = ARCHIVES.get(name)
    if archive is None:
        raise DownloadError(
            f"corpus {name!r} cannot be downloaded here.{did_you_mean(name, ARCHIVES)} "
            f"Free to download: {', '.join(ARCHIVES)}; others are asked for from their owners"
        )
    folder = Path(root).expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadError(f"{folder}: cannot be made ({error.strerror}); name another folder") from error
    stamp = folder / f".{archive.file}.json"
    if _is_complete(folder, stamp, archive):
        return folder
    _check_space(folder, archive)
    bar = sys.stderr.isatty() if progress is None else progress
    path = _fetch(archive, (base_url or archive.url).rstrip("/"), folder, bar)
    files = _unpack(path, folder, bar)
    stamp.write_text(json.dumps({"checksum": archive.checksum, "files": files}, indent=1), encoding="utf-8")
    path.unlink()
    return folder


def _is_complete(folder: Path, stamp: Path, archive: Archive) -> bool:
    """Whether an earlier call unpacked this archive and every file is there with its size."""
    try:
        content = json.loads(stamp.read_text(encoding="utf-8"))
        if content["checksum"] != archive.checksum or not content["files"]:
            return False
        return all((folder / file).stat().st_size == size for file, size in content["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _check_space(folder: Path, archive: Archive) -> None:
    needed = archive.size + archive.unpacked
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DownloadError(
            f"{folder}: {needed / 1e9:.2f} GB are needed and {free / 1e9:.2f} GB free; choose another folder"
        )


# ------------------------------------------------------------------------------------------- fetching


class _Bar(Protocol):
    """What pooch asks of a progress bar."""

    total: int

    def update(self, amount: int) -> None: ...

    def reset(self) -> None: ...

    def close(self) -> None: ...


def _fetch(archive: Archive, url: str, folder: Path, progress: bool) -> Path:
    """The archive in ``folder``, with the right checksum."""
    import pooch
    from pooch import get_logger

    get_logger().setLevel("WARNING")
    with _rich_bar(f"fetching {archive.file}", progress) as bar:
        part = folder / f"{archive.file}.part"
        downloader = ResumingDownloader(part, attempts=_ATTEMPTS, pause=_PAUSE, progressbar=bar)
        try:
            return Path(
                pooch.retrieve(
                    f"{url}/{archive.file}",
                    known_hash=archive.checksum,
                    fname=archive.file,
                    path=folder,
                    downloader=downloader,
                )
            )
        except ValueError as error:  # pooch's word for a checksum that does not fit
            raise DownloadError(
                f"{url}/{archive.file}: does not have the published checksum {archive.checksum}; it was "
                "deleted; download it again, from its owner's server if this is a mirror"
            ) from error
        except OSError as error:
            raise DownloadError(f"{folder}: cannot be written ({error}); choose another folder") from error


class ResumingDownloader:
    """A downloader for :func:`pooch.retrieve` that goes on where an earlier transfer stopped.

    What has arrived is kept in a file of its own, across failures, interrupts and calls; it becomes the
    output when it is complete. The rest is asked for with an HTTP range; a server that does not know ranges
    sends everything.

    Args:
        part: File for what has arrived.
        attempts: How often in a row a transfer may fail without a new byte.
        pause: Seconds before the second attempt; doubled before each further one.
        progressbar: Anything with ``total``, ``update``, ``reset`` and ``close``, or None.
    """

    def __init__(
        self,
        part: Path,
        *,
        attempts: int = _ATTEMPTS,
        pause: float = _PAUSE,
        progressbar: _Bar | None = None,
    ) -> None:
        self.part = part
        self.attempts = attempts
        self.pause = pause
        self.progressbar = progressbar

    def __call__(self, url: str, output_file: str, pooch: Any, check_only: bool = False) -> None:
        """Fetch ``url`` to ``output_file``.

        Raises:
            DownloadError: If the server has no such file, or the transfer fails ``attempts`` times in a row.
        """
        import requests
        from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema

        failures = 0
        while True:
            before = self._size()
            try:
                total = self._transfer(url)
            except (InvalidSchema, InvalidURL, MissingSchema) as error:
                raise DownloadError(f"{url}: not an address that can be fetched; give an http(s) one") from error
            except requests.RequestException as error:
                failures = 1 if self._size() > before else failures + 1
                if failures >= self.attempts:
                    raise DownloadError(
                        f"{url}: {_reason(error)} after {self._size() / 1e6:.1f} MB; "
                        "give the same command again and it goes on there"
                    ) from error
                time.sleep(self.pause * 2 ** (failures - 1))
                continue
            if total is None or self._size() == total:
                break
            self.part.unlink()  # longer than the file of the server: the rest of another version
        self.part.replace(output_file)
        if self.progressbar is not None:
            self.progressbar.close()

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _transfer(self, url: str) -> int | None:
        """One request; returns the size of the whole file, where the server tells."""
        import requests

        have = self._size()
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                total = _total_of_range(response)
                if total != have:
                    self.part.unlink()
                    return self._transfer(url)
                return total
            if 400 <= response.status_code < 500 and response.status_code not in (408, 429):
                raise DownloadError(
                    f"{url}: the server answers {response.status_code} {response.reason}; check the address, or "
                    "download the file with a browser and unpack it"
                )
            response.raise_for_status()
            resumed = response.status_code == requests.codes.partial_content
            length = response.headers.get("Content-Length")
            total = None if length is None else int(length) + (have if resumed else 0)
            self._show(have if resumed else 0, total)
            with self.part.open("ab" if resumed else "wb") as file:
                for chunk in response.iter_content(_READ):
                    file.write(chunk)
                    if self.progressbar is not None:
                        self.progressbar.update(len(chunk))
            if total is not None and self._size() < total:
                raise requests.ConnectionError(f"{self._size()} of {total} bytes arrived")
            return total

    def _show(self, have: int, total: int | None) -> None:
        if self.progressbar is not None:
            self.progressbar.reset()
            self.progressbar.total = total or 0
            self.progressbar.update(have)


def _total_of_range(response: requests.Response) -> int | None:
    """Size of the whole file, from ``Content-Range: bytes */123``."""
    total = response.headers.get("Content-Range", "").rpartition("/")[2]
    return int(total) if total.isdigit() else None


def _reason(error: requests.RequestException) -> str:
    import requests

    if isinstance(error, requests.Timeout):
        return "the server stopped answering"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    return "the connection failed"


@contextmanager
def _rich_bar(words: str, show: bool) -> Iterator[_Bar | None]:
    if not show:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn(words), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield _RichBar(bar)


class _RichBar:
    """A rich progress bar with the methods that pooch knows."""

    def __init__(self, bar: Any) -> None:
        self.bar = bar
        self.task = bar.add_task("")

    @property
    def total(self) -> int:
        return int(self.bar.tasks[0].total or 0)

    @total.setter
    def total(self, value: int) -> None:
        self.bar.update(self.task, total=value or None)

    def update(self, amount: int) -> None:
        self.bar.advance(self.task, amount)

    def reset(self) -> None:
        self.bar.reset(self.task)

    def close(self) -> None:
        self.bar.stop_task(self.task)


# ------------------------------------------------------------------------------------------- unpacking


def _unpack(path: Path, folder: Path, progress: bool) -> dict[str, int]:
    """Unpack a ZIP file; no member may leave ``folder``, and none is there in part after a kill.

    Returns:
        The files with their sizes in bytes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            for member in members:
                _check_member(path, member)
            files: dict[str, int] = {}
            with _rich_bar("unpacking", progress) as bar:
                if bar is not None:
                    bar.total = sum(member.file_size for member in members)
                for member in members:
                    target = folder / member.filename
                    target.parent.mkdir(parents=True, exist_ok=True)
                    half = target.with_name(f".{target.name}.part")
                    with archive.open(member) as source, half.open("wb") as file:
                        shutil.copyfileobj(source, file, _COPY)
                    half.replace(target)
                    files[member.filename] = member.file_size
                    if bar is not None:
                        bar.update(member.file_size)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise DownloadError(f"{path}: cannot be unpacked ({error}); delete it and download it again") from error
    except OSError as error:
        raise DownloadError(f"{folder}: cannot be written ({error}); choose another folder") from error
    return files


def _check_member(path: Path, member: zipfile.ZipInfo) -> None:
    """Refuse a member that would be written outside of the folder, or is no plain file."""
    name = PurePosixPath(member.filename)
    kind = stat.S_IFMT(member.external_attr >> 16)
    outside = name.is_absolute() or ".." in name.parts or "\\" in member.filename or ":" in name.parts[0]
    if outside or kind not in (0, stat.S_IFREG):
        raise DownloadError(
            f"{path}: holds {member.filename!r}, which is not a plain file within the folder; nothing was unpacked"
        )
