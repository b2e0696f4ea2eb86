import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from graphophone.features import CacheWarning, FeatureCache, create_extractor
from graphophone.features.cache import CacheError, content_hash, file_stamp

FBANK = create_extractor("fbank")
DIGEST = "ab" * 20


def entry_path(cache: FeatureCache, digest: str = DIGEST) -> str:
    return cache.path(FBANK, digest, None, None)


@pytest.fixture
def features() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((37, 5)).astype(np.float32)


@pytest.mark.parametrize("shape", [(37, 5), (1, 1), (88,)])
def test_what_is_stored_is_found(cache: FeatureCache, shape: tuple[int, ...]) -> None:
    features = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    path = entry_path(cache)
    assert cache.find(path) is None
    stored = cache.store(path, features, {"duration": "1.5"})
    found = cache.find(path)
    assert found == stored
    assert found.metadata["duration"] == "1.5"
    np.testing.assert_array_equal(found.open(), features)


def test_entries_are_memory_mapped_and_read_only(cache: FeatureCache, features: np.ndarray) -> None:
    array = cache.store(entry_path(cache), features, {}).open()
    assert not array.flags.owndata
    assert not array.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    cache.clear()
    np.testing.assert_array_equal(array, features)  # what is open stays readable


def test_entries_are_ordinary_safetensors_files(cache: FeatureCache, features: np.ndarray) -> None:
    path = entry_path(cache)
    cache.store(path, features, {})
    np.testing.assert_array_equal(load_file(path)["features"], features)


def test_key_depends_on_content_segment_and_extractor(cache: FeatureCache) -> None:
    paths = [
        cache.path(FBANK, DIGEST, None, None),
        cache.path(FBANK, "cd" * 20, None, None),
        cache.path(FBANK, DIGEST, 1.0, None),
        cache.path(FBANK, DIGEST, None, 1.0),
        cache.path(create_extractor("fbank", num_mel_bins=40), DIGEST, None, None),
        cache.path(create_extractor("is10"), DIGEST, None, None),
    ]
    assert len(set(paths)) == len(paths)
    assert cache.path(FBANK, DIGEST, 0.0, None) == paths[0]
    assert cache.path(FBANK, DIGEST, 0.1 + 0.2, 1.0) == cache.path(FBANK, DIGEST, 0.3, 1.0)


def damaged_at(position: float, how: str, content: bytes) -> bytes:
    at = min(int(position * len(content)), len(content) - 1)
    if how == "truncated":
        return content[:at]
    if how == "flipped":
        return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]
    if how == "zeroed":
        return content[:at] + bytes(len(content) - at)
    return content + b"more"


@given(
    st.floats(0, 1, exclude_max=True),
    st.sampled_from(["truncated", "flipped", "zeroed", "longer"]),
    st.integers(1, 4),
)
def test_any_damage_is_noticed_reported_and_removed(
    tmp_path_factory: pytest.TempPathFactory, position: float, how: str, frames: int
) -> None:
    cache = FeatureCache(tmp_path_factory.getbasetemp() / "damage")
    features = np.arange(1.0, 2 * frames + 1, dtype=np.float32).reshape(frames, 2)
    path = entry_path(cache)
    cache.store(path, features, {"duration": "1.0", "notes": ""})
    good = Path(path).read_bytes()
    bad = damaged_at(position, how, good)
    if bad == good:  # zeros over zeros
        return
    Path(path).write_bytes(bad)
    with pytest.warns(CacheWarning, match="damaged entry .* computed anew") as caught:
        found = cache.find(path)
    assert found is None
    assert len(caught) == 1
    assert not Path(path).exists()
    assert cache.find(path) is None


def test_an_unfinished_file_is_never_believed(
    cache: FeatureCache, features: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = entry_path(cache)

    def dies(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", dies)
        with pytest.raises(KeyboardInterrupt):
            cache.store(path, features, {})
    assert cache.find(path) is None
    assert list((cache.folder / "tmp").iterdir()) == []


def test_leftovers_of_dead_processes_are_cleaned(cache: FeatureCache) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = __import__("socket").gethostname()
    temporary = cache.folder / "tmp"
    (temporary / f"{host}-{dead.pid}-aaaa").write_bytes(b"half")
    (temporary / f"{host}-{os.getpid()}-bbbb").write_bytes(b"being written")
    (temporary / "elsewhere-1-cccc").write_bytes(b"another machine's")
    old = temporary / "elsewhere-1-dddd"
    old.write_bytes(b"another machine's, of the day before yesterday")
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    assert cache.clean() == 2
    assert sorted(p.name for p in temporary.iterdir()) == sorted([f"{host}-{os.getpid()}-bbbb", "elsewhere-1-cccc"])


def _write_many(folder: str, seed: int) -> None:
    cache = FeatureCache(folder)
    for i in range(60):
        features = np.full((200, 20), i, dtype=np.float32)
        path = entry_path(cache, f"{i:040x}")
        found = cache.find(path)
        if found is None or (i + seed) % 3 == 0:
            cache.store(path, features, {"writer": str(seed)})
            found = cache.find(path)
        assert found is not None
        assert (found.open() == i).all()
        cache.remember_digests({f"/{seed}/{i}": ((i, 1), f"{i:040x}"), f"/both/{i}": ((i, 1), f"{i:040x}")})


def test_two_processes_at_once(cache: FeatureCache) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_write_many, args=(str(cache.folder), seed)) for seed in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert cache.info().entries == 60
    assert all(cache.find(entry_path(cache, f"{i:040x}")) for i in range(60))
    stamps = {f"/{who}/{i}": (i, 1) for who in ("0", "1", "both") for i in range(60)}
    assert len(cache.known_digests(stamps)) == 180


def test_writing_where_nothing_can_be_written(cache: FeatureCache, features: np.ndarray, tmp_path: Path) -> None:
    path = Path(entry_path(cache))
    path.parent.mkdir(parents=True)
    path.mkdir()  # a folder in the way, as good as a disk that is full
    (path / "x").touch()
    with pytest.raises(CacheError, match="cannot be written"):
        cache.store(str(path), features, {})
    assert list((cache.folder / "tmp").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match="GRAPHOPHONE_CACHE"):
        FeatureCache(tmp_path / "file")


def test_a_folder_cleared_in_between_is_made_again(cache: FeatureCache, features: np.ndarray) -> None:
    path = entry_path(cache)
    cache.store(path, features, {})
    cache.clear()
    (cache.folder / "tmp").rmdir()
    cache.store(path, features, {})
    assert cache.find(path) is not None


def test_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRAPHOPHONE_CACHE", str(tmp_path / "mine"))
    assert FeatureCache().folder == tmp_path / "mine" / "features"
    monkeypatch.delenv("GRAPHOPHONE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    if sys.platform == "linux":
        assert FeatureCache().folder == tmp_path / "user" / "graphophone" / "features"


def test_info_and_clear(cache: FeatureCache, features: np.ndarray) -> None:
    is10 = create_extractor("is10")
    for i in range(3):
        cache.store(entry_path(cache, f"{i:040x}"), features, {})
    cache.store(cache.path(is10, DIGEST, None, None), features, {})
    (cache.folder / "notes").mkdir()
    (cache.folder / "notes" / "mine.txt").write_text("not a cache entry")
    cache.remember_digests({"/a": ((1, 1), DIGEST)})
    info = cache.info()
    assert info.entries == 4
    assert info.bytes == sum(f.stat().st_size for f in cache.folder.rglob("*.safetensors"))
    assert {name.rpartition("-")[0]: n for name, (n, _) in info.extractors.items()} == {"fbank": 3, "is10": 1}
    assert cache.clear("fbank").entries == 3
    assert cache.info().entries == 1
    assert cache.known_digests({"/a": (1, 1)}) == {"/a": DIGEST}
    assert cache.clear().entries == 1
    assert cache.info().entries == 0
    assert cache.known_digests({"/a": (1, 1)}) == {}
    assert (cache.folder / "notes" / "mine.txt").exists()


def test_content_hashes_are_remembered_until_the_file_changes(cache: FeatureCache, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"content")
    os.utime(path, ns=(10**18, 10**18))
    digest, stamp = content_hash(str(path)), file_stamp(str(path))
    cache.remember_digests({str(path): (stamp, digest)})
    again = FeatureCache(cache.folder)
    assert again.known_digests({str(path): file_stamp(str(path)), "/other": (1, 1)}) == {str(path): digest}
    path.write_bytes(b"CONTENT")
    os.utime(path, ns=(10**18 + 1, 10**18 + 1))
    assert again.known_digests({str(path): file_stamp(str(path))}) == {}
    many = {f"/file/{i}": ((i, i), f"{i:040x}") for i in range(1500)}
    cache.remember_digests(many)
    assert again.known_digests({p: s for p, (s, _) in many.items()}) == {p: d for p, (_, d) in many.items()}


def test_file_names_that_are_no_text(cache: FeatureCache) -> None:
    path = os.fsdecode(b"/caf\xe9.wav")
    cache.remember_digests({path: ((1, 1), DIGEST)})
    assert cache.known_digests({path: (1, 1)}) == {path: DIGEST}


def test_a_file_modified_just_now_is_not_remembered(cache: FeatureCache, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"content")
    stamp = file_stamp(str(path))
    cache.remember_digests({str(path): (stamp, content_hash(str(path)))})
    assert cache.known_digests({str(path): stamp}) == {}


def test_a_damaged_table_of_hashes_is_made_anew(cache: FeatureCache) -> None:
    cache.remember_digests({"/a": ((1, 1), DIGEST)})
    table = cache.folder / "hashes.sqlite"
    table.write_bytes(b"this is no database" * 1000)
    with pytest.warns(CacheWarning, match="content hashes was damaged"):
        assert cache.known_digests({"/a": (1, 1)}) == {}
    cache.remember_digests({"/a": ((1, 1), DIGEST)})
    assert cache.known_digests({"/a": (1, 1)}) == {"/a": DIGEST}


def test_content_hash_depends_on_content_only(tmp_path: Path) -> None:
    for name, content in (("a", b"x" * 100_000), ("b", b"x" * 100_000), ("c", b"x" * 99_999 + b"y")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (content_hash(str(tmp_path / name)) for name in "abc")
    assert a == b != c
