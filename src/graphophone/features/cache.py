"""Extracted features on disk.

One file in the safetensors format per item. Why this and not one large table (Arrow, HDF5): an entry appears
in one atomic step (:func:`os.replace` of a finished file), so that several processes can write and one can be
killed at any moment without a lock, a journal or a repair tool; frames of different counts need no padding
and no offsets; reading is a memory map of exactly one item; the format is documented, read by many libraries,
carries metadata and holds no code. What a single table does better, fewer files, matters little at the size
of these entries (a hundred kilobytes and more).

Layout of the folder::

    <extractor>-<fingerprint>/<2 digits>/<key>.safetensors
    tmp/                                    files being written
    hashes.sqlite                           content hashes of audio files already read

The key is a hash of the audio file's content, the segment and the extractor's fingerprint: a file that is
renamed or copied stays cached, one whose samples change does not. Each entry carries a CRC-32 of its data,
compared whenever a process opens the entry through :meth:`FeatureCache.find` (:meth:`FeaturePipeline.extract
<graphophone.features.FeaturePipeline.extract>` does so once for every item it hands out). A truncated or
altered entry is reported, removed, and written anew. For that reason nothing is forced to the disk (fsync) on
writing: the power failing before the disk has the data leaves an entry that the checksum rejects.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
import socket
import sqlite3
import struct
import time
import uuid
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import platformdirs
from safetensors.numpy import save

from graphophone.errors import GraphophoneError
from graphophone.features.base import Extractor, stable_hash

_FORMAT = "graphophone-features-1"
_TENSOR = "features"
_SUFFIX = ".safetensors"
_MAX_HEADER = 1 << 20
_BLOCK = 1 << 20
# A file modified this recently could change again within the resolution of its time stamp.
_SETTLED_SECONDS = 2.0
_STALE_SECONDS = 24 * 3600.0


class CacheWarning(UserWarning):
    """An entry of the cache was damaged; it is rebuilt."""


class CacheError(GraphophoneError):
    """The cache folder cannot be used."""


class _DamagedEntryError(Exception):
    """An entry that is not what was written."""


@dataclass(frozen=True)
class CacheInfo:
    """What a cache holds.

    Attributes:
        folder: Where it is.
        entries: Number of items.
        bytes: Their size.
        extractors: `{"<extractor>-<fingerprint>": (entries, bytes)}`.
    """

    folder: Path
    entries: int
    bytes: int
    extractors: Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Entry:
    """Where the features of one item lie; small, and safe to send to another process.

    Attributes:
        path: The file.
        offset: First byte of the data in it.
        shape: `[frames, dims]` or `[dims]`.
        metadata: What was stored beside the data (strings).
    """

    path: str
    offset: int
    shape: tuple[int, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)

    def open(self) -> np.ndarray:
        """The features, float32, memory-mapped and read-only; checked when the entry was found."""
        return map_array(self.path, self.offset, self.shape)


def map_array(path: str, offset: int, shape: Sequence[int]) -> np.ndarray:
    """Memory-map little-endian float32 of ``shape`` that begin at byte ``offset`` of a file, read-only.

    The mapping lives as long as the array (or a view of it) does.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    finally:
        os.close(descriptor)
    count = int(np.prod(shape))
    return np.frombuffer(mapped, dtype="<f4", count=count, offset=offset).reshape(shape)


def read_entry(path: str) -> Entry:
    """Read and verify one entry.

    Raises:
        FileNotFoundError: If there is none.
        _DamagedEntryError: If it is not a complete, unaltered entry of this cache.
    """
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            (length,) = struct.unpack("<Q", file.read(8))
            if not 0 < length <= min(_MAX_HEADER, size - 8):
                raise ValueError("header length")
            header = json.loads(file.read(length))
            metadata = header["__metadata__"]
            tensor = header[_TENSOR]
            shape = tuple(int(n) for n in tensor["shape"])
            begin, end = tensor["data_offsets"]
            checksum = metadata["crc32"]
            sound = (
                metadata["format"] == _FORMAT
                and tensor["dtype"] == "F32"
                and begin == 0
                and end == 4 * int(np.prod(shape))
                and size == 8 + length + end
            )
        except (ValueError, KeyError, TypeError, struct.error) as error:
            raise _DamagedEntryError("it is truncated or not in the format") from error
        if not sound:
            raise _DamagedEntryError("it is truncated or not in the format")
        crc = 0
        while block := file.read(_BLOCK):
            crc = zlib.crc32(block, crc)
    if _checksum(metadata, crc) != checksum:
        raise _DamagedEntryError("its data do not match its checksum")
    return Entry(path, 8 + length, shape, metadata)


def _checksum(metadata: Mapping[str, str], crc: int) -> str:
    """CRC-32 of data (of which ``crc`` is the CRC-32) and metadata (a changed duration is damage, too)."""
    others = {key: value for key, value in metadata.items() if key != "crc32"}
    return f"{zlib.crc32(json.dumps(others, sort_keys=True).encode(), crc):08x}"


class FeatureCache:
    """Features of audio files (or segments of them), by content.

    Safe to use from several processes at once, on one machine or over a shared folder.

    Args:
        folder: Where to keep it. Default: the folder named by the environment variable ``GRAPHOPHONE_CACHE``,
            else the user's cache folder for graphophone; in both cases its subfolder ``features``.

    Raises:
        CacheError: If the folder cannot be made or written.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        if folder is None:
            base = os.environ.get("GRAPHOPHONE_CACHE") or platformdirs.user_cache_dir("graphophone")
            folder = Path(base) / "features"
        self.folder = Path(folder).expanduser().absolute()
        try:
            (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CacheError(
                f"{self.folder}: cannot be used as a cache ({error.strerror}); choose another folder or set "
                "GRAPHOPHONE_CACHE"
            ) from error

    def __repr__(self) -> str:
        return f"FeatureCache({str(self.folder)!r})"

    # Entries

    def path(self, extractor: Extractor, digest: str, start: float | None, end: float | None) -> str:
        """The file for a segment of a recording; it need not exist.

        Args:
            extractor: What computes the features.
            digest: :func:`content_hash` of the audio file.
            start: Begin of the segment in seconds; None is the same as 0.
            end: Its end in seconds; None for the end of the file.
        """
        return str(self.folder / _relative_path(extractor.name, extractor.fingerprint, digest, start, end))

    def find(self, path: str) -> Entry | None:
        """The entry at ``path``, its checksum verified; None if there is none.

        A damaged one is reported by a :class:`CacheWarning`, removed, and None is returned.
        """
        entry, damage = self.look_up(path)
        if damage:
            warnings.warn(damage, CacheWarning, stacklevel=2)
        return entry

    def look_up(self, path: str) -> tuple[Entry | None, str]:
        """As :meth:`find`, but damage is returned as a text (empty: none) for the caller to report."""
        try:
            return read_entry(path), ""
        except FileNotFoundError:
            return None, ""
        except _DamagedEntryError as error:
            Path(path).unlink(missing_ok=True)
            return None, f"{path}: damaged entry of the feature cache ({error}); it is computed anew"

    def store(self, path: str, features: np.ndarray, metadata: Mapping[str, str]) -> Entry:
        """Write an entry: all of it, or nothing.

        Args:
            path: From :meth:`path`.
            features: float32, `[frames, dims]` or `[dims]`.
            metadata: Strings to keep beside it.

        Raises:
            CacheError: If it cannot be written (disk full, no permission).
        """
        features = np.ascontiguousarray(features, dtype="<f4")
        metadata = {**metadata, "format": _FORMAT}
        metadata["crc32"] = _checksum(metadata, zlib.crc32(features.data))
        content = save({_TENSOR: features}, metadata)
        # In the same file system as its final place, so that the replacement is atomic; named by its writer,
        # so that what a killed process leaves can be told from what a living one is writing.
        temporary = self.folder / "tmp" / f"{_host()}-{os.getpid()}-{uuid.uuid4().hex}"
        try:
            try:
                self._put(content, temporary, path)
            except FileNotFoundError:  # a folder was cleared by another process in between
                self._put(content, temporary, path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise CacheError(
                f"{path}: cannot be written ({error.strerror}); free some space or choose another folder"
            ) from error
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        (length,) = struct.unpack("<Q", content[:8])
        return Entry(path, 8 + length, features.shape, metadata)

    @staticmethod
    def _put(content: bytes, temporary: Path, path: str) -> None:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)

    def clean(self) -> int:
        """Remove unfinished files of processes that are no more; returns how many.

        A file of this machine goes when its process is gone; one of another machine (a shared folder) after a
        day.
        """
        removed = 0
        for file in (self.folder / "tmp").iterdir():
            host, _, rest = file.name.rpartition("-")[0].rpartition("-")
            try:
                if os.name == "posix" and host == _host() and rest.isdigit():
                    stale = not _alive(int(rest))
                else:
                    stale = time.time() - file.stat().st_mtime > _STALE_SECONDS
                if stale:
                    file.unlink()
                    removed += 1
            except FileNotFoundError:
                continue  # another process cleans, too
        return removed

    # Size

    def info(self) -> CacheInfo:
        """Count what the cache holds (walks the folder)."""
        extractors = {}
        for folder in sorted(self._extractor_folders()):
            sizes = [file.stat().st_size for file in folder.glob(f"*/*{_SUFFIX}")]
            if sizes:
                extractors[folder.name] = (len(sizes), sum(sizes))
        return CacheInfo(
            self.folder,
            sum(entries for entries, _ in extractors.values()),
            sum(size for _, size in extractors.values()),
            extractors,
        )

    def clear(self, extractor: str | None = None) -> CacheInfo:
        """Delete entries; returns what was deleted.

        Args:
            extractor: Only those of this extractor: its name, or one of the names that :meth:`info` lists.
                None deletes all, and the content hashes.
        """
        before = self.info()
        gone = {
            name: size
            for name, size in before.extractors.items()
            if extractor is None or extractor in (name, name.rpartition("-")[0])
        }
        for folder in self._extractor_folders():
            if extractor is None or folder.name in gone:
                shutil.rmtree(folder, ignore_errors=True)
        if extractor is None:
            for suffix in ("", "-wal", "-shm"):
                self._hashes.with_name(self._hashes.name + suffix).unlink(missing_ok=True)
        return CacheInfo(
            self.folder,
            sum(entries for entries, _ in gone.values()),
            sum(size for _, size in gone.values()),
            gone,
        )

    def _extractor_folders(self) -> list[Path]:
        # Only folders that this class makes: a cache pointed at a folder with other things leaves these
        # alone.
        return [
            folder
            for folder in self.folder.iterdir()
            if folder.is_dir()
            and len(tail := folder.name.rpartition("-")[2]) == 16
            and set(tail) <= set("0123456789abcdef")
        ]

    # Content hashes

    @property
    def _hashes(self) -> Path:
        return self.folder / "hashes.sqlite"

    def known_digests(self, stamps: Mapping[str, FileStamp]) -> dict[str, str]:
        """Content hashes that need no reading: of files with the size and time stamp remembered.

        Args:
            stamps: Absolute path to its :class:`FileStamp`.

        Returns:
            Path to hash, for those that are known.
        """
        if not self._hashes.exists():
            return {}
        found: dict[str, str] = {}
        # Bytes, since a file name need not be text.
        paths = {os.fsencode(path): path for path in stamps}
        keys = list(paths)
        try:
            with self._connect() as connection:
                for i in range(0, len(keys), 500):
                    block = keys[i : i + 500]
                    marks = ",".join("?" * len(block))
                    rows = connection.execute(
                        f"SELECT path, size, mtime_ns, digest FROM files WHERE path IN ({marks})",  # noqa: S608
                        block,
                    )
                    found.update(
                        (paths[key], digest) for key, size, mtime, digest in rows if stamps[paths[key]] == (size, mtime)
                    )
        except sqlite3.Error as error:
            self._forget(error)
            return {}
        return found

    def remember_digests(self, digests: Mapping[str, tuple[FileStamp, str]]) -> None:
        """Remember content hashes: absolute path to the stamp taken before reading, and the hash.

        One transaction in SQLite's write-ahead mode: a kill leaves the table as it was before. Files modified
        within the last two seconds are not remembered, since a further change might not show in their time
        stamp.
        """
        limit = time.time_ns() - int(_SETTLED_SECONDS * 1e9)
        rows = [
            (os.fsencode(path), size, mtime, digest)
            for path, ((size, mtime), digest) in digests.items()
            if mtime < limit
        ]
        if not rows:
            return
        try:
            with self._connect() as connection:
                connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", rows)
        except sqlite3.Error as error:
            self._forget(error)

    def _connect(self) -> _Connection:
        return _Connection(self._hashes)

    def _forget(self, error: sqlite3.Error) -> None:
        """Report a table that cannot be used; it only saves reading, and is made anew."""
        damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
        if damaged:
            for suffix in ("", "-wal", "-shm"):
                self._hashes.with_name(self._hashes.name + suffix).unlink(missing_ok=True)
        warnings.warn(
            f"{self._hashes}: the table of content hashes {'was damaged' if damaged else 'cannot be used'} "
            f"({error}); audio files are read again",
            CacheWarning,
            stacklevel=3,
        )


#: Size in bytes and time of modification in nanoseconds.
FileStamp = tuple[int, int]


def file_stamp(path: str) -> FileStamp:
    """Size and modification time of a file."""
    status = Path(path).stat()
    return status.st_size, status.st_mtime_ns


def content_hash(path: str) -> str:
    """Hash of a file's bytes (BLAKE2b, 160 bits)."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=20)).hexdigest()


def _relative_path(name: str, fingerprint: str, digest: str, start: float | None, end: float | None) -> str:
    # Microseconds are below one sample; rounding makes 0.1 + 0.2 and 0.3 the same segment.
    begin = round((start or 0.0) * 1e6)
    finish = None if end is None else round(end * 1e6)
    key = stable_hash([digest, begin, finish, fingerprint], digits=40)
    return os.path.join(f"{name}-{fingerprint[:16]}", key[:2], key + _SUFFIX)  # noqa: PTH118


class _Connection:
    """An SQLite connection that commits and closes at the end of a with statement."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> sqlite3.Connection:
        self._connection = sqlite3.connect(self._path, timeout=30.0)
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS files "
                "(path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, digest TEXT) WITHOUT ROWID"
            )
        except BaseException:
            self._connection.close()
            raise
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._connection.commit()
        finally:
            self._connection.close()


def _host() -> str:
    return socket.gethostname() or "localhost"


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
