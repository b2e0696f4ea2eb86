"""Downloads, from a server on this machine."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import re
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from graphophone import corpora
from graphophone.corpora import CorpusError, downloads
from graphophone.corpora.downloads import ARCHIVES, Archive, DownloadError, ResumingDownloader


class Server:
    """Files by name, what was asked for, and how the server is to behave."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []  # path, Range
        self.ranges = True
        self.lengths = True
        self.cuts: list[int] = []  # bytes after which the connection of each request to come is cut
        self.codes: list[int] = []  # codes that the requests to come are answered with
        self.url = ""


def handler(server: Server) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            server.requests.append((self.path, asked))
            if server.codes:
                self.send_error(server.codes.pop(0))
                return
            data = server.files.get(self.path.lstrip("/"))
            if data is None:
                self.send_error(404)
                return
            first = 0
            match = re.fullmatch(r"bytes=(\d+)-", asked or "")
            if server.ranges and match:
                first = int(match[1])
                if first >= len(data):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(data)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
            else:
                self.send_response(200)
            if server.lengths:
                self.send_header("Content-Length", str(len(data) - first))
            self.end_headers()
            end = first + server.cuts.pop(0) if server.cuts else len(data)
            self.wfile.write(data[first:end])

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(state)) as running:
        state.url = f"http://127.0.0.1:{running.server_address[1]}"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        running.shutdown()
        thread.join()


def zipped(files: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


CONTENT = {
    "Actor_01/03-01-01-01-01-01-01.wav": b"a" * 400_000,
    "Actor_02/03-01-05-02-02-02-02.wav": bytes(range(256)) * 2000,
}
Offer = Callable[[bytes], Archive]


@pytest.fixture(autouse=True)
def no_pause_and_small_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "_PAUSE", 0.0)
    monkeypatch.setattr(downloads, "_READ", 1000)


@pytest.fixture
def offer(server: Server, monkeypatch: pytest.MonkeyPatch) -> Offer:
    """Put data on the server as the archive of RAVDESS, with its true checksum."""

    def put(data: bytes) -> Archive:
        server.files["ravdess.zip"] = data
        archive = Archive(
            url=server.url,
            file="ravdess.zip",
            checksum=f"md5:{hashlib.md5(data, usedforsecurity=False).hexdigest()}",
            size=len(data),
            unpacked=1_000_000,
            licence="CC0",
        )
        monkeypatch.setitem(ARCHIVES, "ravdess", archive)
        return archive

    return put


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".ravdess.zip.json"
    }


# ------------------------------------------------------------------------------------------- the good way


@pytest.mark.parametrize("progress", [True, False, None])
def test_a_corpus_is_fetched_checked_and_unpacked(
    server: Server, offer: Offer, tmp_path: Path, progress: bool | None, capsys: pytest.CaptureFixture[str]
) -> None:
    offer(zipped(CONTENT))
    root = tmp_path / "new" / "ravdess"
    assert corpora.download("ravdess", root, progress=progress) == root
    assert files_below(root) == CONTENT, "the archive and the part are gone"
    assert len(corpora.load("ravdess", root)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert bool(printed.err) is (progress is True)


def test_what_is_complete_is_not_fetched_again(server: Server, offer: Offer, tmp_path: Path) -> None:
    offer(zipped(CONTENT))
    corpora.download("ravdess", tmp_path)
    corpora.download("ravdess", tmp_path)
    assert len(server.requests) == 1
    (tmp_path / "Actor_01/03-01-01-01-01-01-01.wav").write_bytes(b"less")
    corpora.download("ravdess", tmp_path)
    assert len(server.requests) == 2
    assert files_below(tmp_path) == CONTENT
    (tmp_path / ".ravdess.zip.json").write_text("{ damaged")
    corpora.download("ravdess", tmp_path)
    assert len(server.requests) == 3


def test_an_archive_that_is_there_is_only_unpacked(server: Server, offer: Offer, tmp_path: Path) -> None:
    data = zipped(CONTENT)
    offer(data)
    (tmp_path / "ravdess.zip").write_bytes(data)
    corpora.download("ravdess", tmp_path)
    assert server.requests == []
    assert files_below(tmp_path) == CONTENT


def test_from_a_mirror(server: Server, offer: Offer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = offer(zipped(CONTENT))
    monkeypatch.setitem(ARCHIVES, "ravdess", Archive(**{**vars(archive), "url": "http://owner.invalid/files"}))
    corpora.download("ravdess", tmp_path, base_url=f"{server.url}/")
    assert [path for path, _ in server.requests] == ["/ravdess.zip"]
    assert files_below(tmp_path) == CONTENT


# ------------------------------------------------------------------------------------------- broken transfers


def test_a_cut_transfer_goes_on_within_the_call(server: Server, offer: Offer, tmp_path: Path) -> None:
    offer(zipped(CONTENT))
    server.cuts = [100_000, 50_000, 0]
    corpora.download("ravdess", tmp_path)
    assert files_below(tmp_path) == CONTENT
    assert [asked for _, asked in server.requests] == [
        None,
        "bytes=100000-",
        "bytes=150000-",
        "bytes=150000-",
    ]


def test_the_next_call_goes_on_where_the_last_stopped(server: Server, offer: Offer, tmp_path: Path) -> None:
    data = zipped(CONTENT)
    offer(data)
    server.cuts = [300_000] + [0] * 5
    with pytest.raises(DownloadError) as raised:
        corpora.download("ravdess", tmp_path)
    assert str(raised.value) == (
        f"{server.url}/ravdess.zip: the connection failed after 0.3 MB; "
        "give the same command again and it goes on there"
    )
    assert files_below(tmp_path) == {"ravdess.zip.part": data[:300_000]}
    server.requests.clear()
    server.cuts.clear()
    corpora.download("ravdess", tmp_path)
    assert server.requests == [("/ravdess.zip", "bytes=300000-")]
    assert files_below(tmp_path) == CONTENT


def test_a_server_without_ranges_sends_everything(server: Server, offer: Offer, tmp_path: Path) -> None:
    offer(zipped(CONTENT))
    server.ranges = False
    server.cuts = [100_000]
    corpora.download("ravdess", tmp_path)
    assert [asked for _, asked in server.requests] == [None, "bytes=100000-"]
    assert files_below(tmp_path) == CONTENT


def test_a_server_that_tells_no_length(server: Server, offer: Offer, tmp_path: Path) -> None:
    offer(zipped(CONTENT))
    server.lengths = False
    corpora.download("ravdess", tmp_path)
    assert files_below(tmp_path) == CONTENT


def test_a_part_that_is_complete_is_taken(server: Server, offer: Offer, tmp_path: Path) -> None:
    data = zipped(CONTENT)
    offer(data)
    (tmp_path / "ravdess.zip.part").write_bytes(data)
    corpora.download("ravdess", tmp_path)
    assert server.requests == [("/ravdess.zip", f"bytes={len(data)}-")]
    assert files_below(tmp_path) == CONTENT


def test_a_part_of_something_longer_is_thrown_away(server: Server, offer: Offer, tmp_path: Path) -> None:
    data = zipped(CONTENT)
    offer(data)
    (tmp_path / "ravdess.zip.part").write_bytes(data + b"of another version")
    corpora.download("ravdess", tmp_path)
    assert [asked for _, asked in server.requests] == [f"bytes={len(data) + 18}-", None]
    assert files_below(tmp_path) == CONTENT


def test_a_part_of_another_file_is_found_by_the_checksum(server: Server, offer: Offer, tmp_path: Path) -> None:
    offer(zipped(CONTENT))
    (tmp_path / "ravdess.zip.part").write_bytes(b"of another version")
    with pytest.raises(DownloadError, match="does not have the published checksum md5:"):
        corpora.download("ravdess", tmp_path)
    assert files_below(tmp_path) == {}
    corpora.download("ravdess", tmp_path)
    assert files_below(tmp_path) == CONTENT


def test_a_busy_server_is_asked_again(server: Server, offer: Offer, tmp_path: Path) -> None:
    offer(zipped(CONTENT))
    server.codes = [503, 429]
    corpora.download("ravdess", tmp_path)
    assert len(server.requests) == 3
    server.codes = [500] * 5
    with pytest.raises(DownloadError, match=r"the server answers 500 Internal Server Error after 0\.0 MB"):
        corpora.download("ravdess", tmp_path / "other")


def test_an_interrupt_keeps_what_has_arrived(
    server: Server, offer: Offer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = zipped(CONTENT)
    offer(data)

    class Interrupting:
        total = 0
        seen = 0

        def update(self, amount: int) -> None:
            self.seen += amount
            if self.seen > 200_000:
                raise KeyboardInterrupt

        def reset(self) -> None: ...

        def close(self) -> None: ...

    fetch = ResumingDownloader(tmp_path / "part", progressbar=Interrupting())
    with pytest.raises(KeyboardInterrupt):
        fetch(f"{server.url}/ravdess.zip", str(tmp_path / "out"), None)
    assert not (tmp_path / "out").exists()
    assert 200_000 < (tmp_path / "part").stat().st_size < len(data)
    ResumingDownloader(tmp_path / "part")(f"{server.url}/ravdess.zip", str(tmp_path / "out"), None)
    assert (tmp_path / "out").read_bytes() == data
    assert server.requests[-1][1] is not None


def test_the_bar_counts_what_was_there_already(server: Server, offer: Offer, tmp_path: Path) -> None:
    data = zipped(CONTENT)
    offer(data)

    class Counting:
        total = 0
        seen = 0
        closed = False

        def update(self, amount: int) -> None:
            self.seen += amount

        def reset(self) -> None:
            self.seen = 0

        def close(self) -> None:
            self.closed = True

    server.cuts = [100_000]
    bar = Counting()
    ResumingDownloader(tmp_path / "part", pause=0.0, progressbar=bar)(
        f"{server.url}/ravdess.zip", str(tmp_path / "out"), None
    )
    assert bar.seen == bar.total == len(data)
    assert bar.closed


# ------------------------------------------------------------------------------------------- wrong answers


def one_line(call: Callable[[], Any]) -> str:
    with pytest.raises(DownloadError) as raised:
        call()
    assert isinstance(raised.value, CorpusError)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_wrong_checksum_is_never_believed(server: Server, offer: Offer, tmp_path: Path) -> None:
    offer(zipped(CONTENT))
    server.files["ravdess.zip"] = zipped({"Actor_01/03-01-01-01-01-01-01.wav": b"forged"})
    words = one_line(lambda: corpora.download("ravdess", tmp_path))
    assert "does not have the published checksum md5:" in words
    assert files_below(tmp_path) == {}


def test_no_such_file(server: Server, offer: Offer, tmp_path: Path) -> None:
    offer(zipped(CONTENT))
    server.files.clear()
    words = one_line(lambda: corpora.download("ravdess", tmp_path))
    assert words.startswith(f"{server.url}/ravdess.zip: the server answers 404 Not Found; check the address")
    assert len(server.requests) == 1


def test_no_server(offer: Offer, tmp_path: Path) -> None:
    offer(zipped(CONTENT))
    closed = "http://127.0.0.1:9"
    words = one_line(lambda: corpora.download("ravdess", tmp_path, base_url=closed))
    assert words.startswith(f"{closed}/ravdess.zip: the connection failed after 0.0 MB")


@pytest.mark.parametrize("address", ["ftp://example.org", "nowhere", "http://"])
def test_no_address(offer: Offer, tmp_path: Path, address: str) -> None:
    offer(zipped(CONTENT))
    assert "not an address" in one_line(lambda: corpora.download("ravdess", tmp_path, base_url=address))


def test_corpora_that_are_not_free(tmp_path: Path) -> None:
    words = one_line(lambda: corpora.download("iemocap", tmp_path))
    assert words.startswith("corpus 'iemocap' cannot be downloaded here. Free to download: emodb, ravdess")
    assert "Did you mean 'ravdess'?" in one_line(lambda: corpora.download("ravdes", tmp_path))


def test_a_full_disk(offer: Offer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = offer(zipped(CONTENT))
    monkeypatch.setitem(ARCHIVES, "ravdess", Archive(**{**vars(archive), "unpacked": 10**18}))
    assert "GB are needed and" in one_line(lambda: corpora.download("ravdess", tmp_path))


def test_a_folder_that_cannot_be_made(offer: Offer, tmp_path: Path) -> None:
    offer(zipped(CONTENT))
    (tmp_path / "file").touch()
    assert "cannot be made" in one_line(lambda: corpora.download("ravdess", tmp_path / "file/below"))


@pytest.mark.parametrize("name", ["../evil.wav", "/evil.wav", "a/../../evil.wav", "..\\evil.wav", "C:/evil.wav"])
def test_no_file_leaves_the_folder(offer: Offer, tmp_path: Path, name: str) -> None:
    offer(zipped({**CONTENT, name: b"evil"}))
    words = one_line(lambda: corpora.download("ravdess", tmp_path / "inner"))
    assert "which is not a plain file within the folder; nothing was unpacked" in words
    assert set(files_below(tmp_path)) == {"inner/ravdess.zip"}


def test_links_are_not_unpacked(offer: Offer, tmp_path: Path) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    offer(data.getvalue())
    assert "'link', which is not a plain file" in one_line(lambda: corpora.download("ravdess", tmp_path))


def test_an_archive_that_is_none(offer: Offer, tmp_path: Path) -> None:
    offer(b"no archive at all")
    assert "cannot be unpacked" in one_line(lambda: corpora.download("ravdess", tmp_path))


def test_a_damaged_member_leaves_no_half_file(offer: Offer, tmp_path: Path) -> None:
    data = bytearray(zipped(CONTENT))
    data[1000] ^= 0xFF
    offer(bytes(data))
    assert "Bad CRC-32" in one_line(lambda: corpora.download("ravdess", tmp_path))
    left = [name for name in files_below(tmp_path) if name.endswith(".wav")]
    assert left == []


def test_an_unpacking_that_was_killed_is_done_again(
    server: Server, offer: Offer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(zipped(CONTENT))
    copy, calls = shutil.copyfileobj, []

    def dying(*args: Any) -> None:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        copy(*args)

    monkeypatch.setattr(downloads.shutil, "copyfileobj", dying)
    with pytest.raises(KeyboardInterrupt):
        corpora.download("ravdess", tmp_path)
    assert [name for name in files_below(tmp_path) if name.endswith(".wav")] == [next(iter(CONTENT))]
    corpora.download("ravdess", tmp_path)
    assert len(server.requests) == 1, "the archive was still there"
    assert files_below(tmp_path) == CONTENT


def test_what_is_published() -> None:
    assert set(ARCHIVES) == {"emodb", "ravdess"}
    for archive in ARCHIVES.values():
        assert re.fullmatch(r"md5:[0-9a-f]{32}", archive.checksum)
        assert archive.url.startswith("https://zenodo.org/records/")
    json.dumps({name: vars(archive) for name, archive in ARCHIVES.items()})
