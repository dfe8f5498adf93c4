"""Downloads from a server in this process, whose faults each test chooses."""

import contextlib
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import timm
import torch

import groundcli.weights.fetch as fetching
from groundcli.__main__ import main
from groundcli.errors import GroundcliError, UsageError
from groundcli.files import sha256
from groundcli.model.elmo import Elmo
from groundcli.weights.elmo import save_elmo
from groundcli.weights.fetch import PLACES, fetch
from groundcli.weights.store import PUBLISHED, find
from tests.cli.conftest import signals_kept
from tests.weights.test_store import TINY

FILE = "vgg16-397923af.pth"


@dataclass
class Server:
    """What is served, and how badly."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    drops: int = 0  # so many answers end after two thirds of what they promise
    ranges: bool = True
    code: int = 0  # of every answer, instead of a file
    location: str = ""  # that every request is sent on to
    endless: bool = False  # answers go on and on, and don't say how long they are
    asked: list[str] = field(default_factory=list)  # the Range of each request


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            state.asked.append(wanted)
            content = state.files.get(self.path[1:])
            if state.location:
                self.send_response(302)
                self.send_header("Location", state.location)
                self.end_headers()
                return
            if state.endless:
                self.send_response(200)
                self.end_headers()
                with contextlib.suppress(OSError):
                    while True:
                        self.wfile.write(bytes(1 << 20))
            if state.code or content is None:
                self.send_error(state.code or 404)
                return
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and state.ranges else 0
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            rest = content[start:]
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            if state.drops:
                state.drops -= 1
                rest = rest[: len(rest) * 2 // 3]
            self.wfile.write(rest)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        state.address = f"http://127.0.0.1:{running.server_port}"
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield state
        running.shutdown()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / FILE
    torch.save(timm.create_model("tf_efficientnet_lite2").state_dict(), path)
    return path


@pytest.fixture(autouse=True)
def published(server: Server, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small backbone and a small ELMo on the server, in the place of the published ones; returns the store."""
    monkeypatch.setenv("GROUNDCLI_WEIGHTS", str(tmp_path / "store"))
    monkeypatch.setattr(fetching.time, "sleep", lambda _: None)
    monkeypatch.setattr(fetching, "PLACES", (f"{server.address}/", "http://127.0.0.1:9/"))
    server.files[FILE] = weights.read_bytes()
    part = replace(PUBLISHED["vgg16"], backbone="tf_efficientnet_lite2", sha256=sha256(weights)[:8])
    monkeypatch.setitem(PUBLISHED, "vgg16", replace(part, urls=(f"{server.address}/{FILE}",)))
    save_elmo(Elmo(TINY), tmp_path)
    server.files["tiny_weights.hdf5"] = (tmp_path / "lm_weights.hdf5").read_bytes()
    server.files["tiny_options.json"] = (tmp_path / "options.json").read_bytes()
    urls = tuple(f"{server.address}/tiny_{end}" for end in ("weights.hdf5", "options.json"))
    monkeypatch.setitem(PUBLISHED, "elmo_small", replace(PUBLISHED["elmo_small"], elmo=TINY, urls=urls))
    return tmp_path / "store"


def quiet(file: str, done: int, total: int | None) -> None:
    assert total is not None
    assert done <= total


def test_a_fetched_backbone_is_imported_and_its_download_deleted(published: Path) -> None:
    assert fetch("vgg16", quiet).startswith("vgg16: backbone tf_efficientnet_lite2, 322 tensors")
    assert [path.name for path in published.iterdir()] == ["vgg16.safetensors"]


def test_what_is_here_is_not_fetched_again(server: Server) -> None:
    fetch("vgg16", quiet)
    assert fetch("vgg16", quiet) == f"vgg16: already here, {find('vgg16')}"
    assert len(server.asked) == 1


def test_a_part_without_a_published_hash_is_told_with_its_hash(server: Server, tmp_path: Path) -> None:
    done = fetch("elmo_small", quiet)
    assert done.endswith(f"no SHA-256 was published, the download's is {sha256(tmp_path / 'lm_weights.hdf5')}")


@pytest.mark.parametrize("ranges", [True, False])
def test_a_dropped_connection_is_taken_up_again(server: Server, weights: Path, ranges: bool) -> None:
    server.drops, server.ranges = 2 if ranges else 1, ranges
    fetch("vgg16", quiet)
    two_thirds = weights.stat().st_size * 2 // 3
    assert server.asked[:2] == ["", f"bytes={two_thirds}-"]


def test_the_next_call_goes_on_where_the_last_one_gave_up(server: Server, published: Path) -> None:
    server.drops = 5
    with pytest.raises(GroundcliError, match=r"can't be downloaded \(the connection was dropped after .*, 5 times\)"):
        fetch("vgg16", quiet)
    server.asked.clear()
    fetch("vgg16", quiet)
    assert len(server.asked) == 1
    assert server.asked[0].startswith("bytes=")


def test_a_download_that_was_whole_already_is_used(server: Server, published: Path, weights: Path) -> None:
    folder = published / "vgg16.download.partial"
    folder.mkdir(parents=True)
    (folder / f"{FILE}.partial").write_bytes(weights.read_bytes())
    fetch("vgg16", quiet)
    assert find("vgg16")


@pytest.mark.slow
def test_a_download_longer_than_the_file_begins_again(server: Server, published: Path, weights: Path) -> None:
    folder = published / "vgg16.download.partial"
    folder.mkdir(parents=True)
    (folder / f"{FILE}.partial").write_bytes(weights.read_bytes() + b"more")
    fetch("vgg16", quiet)
    assert server.asked[-1] == ""


def test_a_file_of_another_hash_is_refused_and_deleted(server: Server, published: Path) -> None:
    server.files[FILE] = server.files[FILE][:-1] + b"\1"
    with pytest.raises(GroundcliError, match=rf"{FILE}: damaged: its SHA-256 is .* begins with .*; download it again"):
        fetch("vgg16", quiet)
    assert not list(published.iterdir())


@pytest.mark.parametrize(("code", "requests"), [(404, 1), (503, 5)])
def test_only_passing_errors_are_tried_again(server: Server, code: int, requests: int) -> None:
    server.code = code
    with pytest.raises(GroundcliError, match=rf"can't be downloaded \(HTTP {code} "):
        fetch("vgg16", quiet)
    assert len(server.asked) == requests


def test_416_to_the_first_request_is_an_error_as_any_other(server: Server, published: Path) -> None:
    server.files[FILE] = b""  # whatever is asked for begins after its end
    with pytest.raises(GroundcliError, match=r"can't be downloaded \(HTTP 416 "):
        fetch("vgg16", quiet)
    assert server.asked == [""]
    assert not published.exists()


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("http://example.org/a", "^http://example.org/a: not one of the places that weights are published at"),
        ("https://github.com.evil.org/a", "^https://github.com.evil.org/a: not one of the places"),
        ("file:///etc/passwd", "Redirection to url 'file:///etc/passwd' is not allowed"),  # as Python says
    ],
)
def test_nothing_is_asked_for_elsewhere(server: Server, published: Path, location: str, says: str) -> None:
    server.location = location
    with pytest.raises(GroundcliError, match=says):
        fetch("vgg16", quiet)
    assert server.asked == [""]
    assert not published.exists()


def test_a_listed_place_may_send_on_to_another(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.location = f"{server.address}/elsewhere"
    with pytest.raises(GroundcliError, match=r"can't be downloaded \(HTTP 302 "):  # it sends on for ever
        fetch("vgg16", quiet)
    assert len(server.asked) > 1


def test_plain_http_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "PLACES", PLACES)
    with pytest.raises(GroundcliError, match=r"^http://127.0.0.1.*: not one of the places"):
        fetch("vgg16", quiet)
    assert not server.asked


def test_more_than_was_published_is_not_kept(
    server: Server, published: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PUBLISHED, "vgg16", replace(PUBLISHED["vgg16"], megabytes=20))  # the file has 24.6
    seen: list[int] = []
    with pytest.raises(GroundcliError, match=r"vgg16-397923af.pth: more than the 22,000,000 bytes that were published"):
        fetch("vgg16", lambda _, done, __: seen.append(done))
    assert seen == [0]  # the server said so before the first byte
    server.endless = True
    with pytest.raises(GroundcliError, match=r"vgg16-397923af.pth: more than the 22,000,000 bytes that were published"):
        fetch("vgg16", lambda _, done, __: seen.append(done))
    assert max(seen) < 23_000_000
    assert not list(published.glob("*/*"))


def test_names_that_can_not_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"^vgg19: nothing of this name was published; vgg16, .* can be fetched$"):
        fetch("vgg19", quiet)
    assert fetch("minilm_words", quiet).startswith("minilm_words: already here")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The command line, in this process."""
    monkeypatch.setattr(sys, "argv", ["groundcli", "weights", *arguments])
    with pytest.raises(SystemExit) as end, signals_kept():
        main()
    return int(end.value.code or 0)


def test_the_command_shows_progress_on_stderr(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "fetch", "vgg16", "elmo_small") == 0
    shown = capsys.readouterr()
    assert [line.split(":")[0] for line in shown.out.splitlines()] == ["vgg16", "elmo_small"]
    assert all(name in shown.err for name in (FILE, "tiny_weights.hdf5", "tiny_options.json"))


def test_without_a_network_there_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(PUBLISHED, "vgg16", replace(PUBLISHED["vgg16"], urls=("http://127.0.0.1:9/vgg16.pth",)))
    assert run(monkeypatch, "fetch", "vgg16") == 3
    shown = capsys.readouterr().err
    assert "vgg16: http://127.0.0.1:9/vgg16.pth can't be downloaded" in shown
    assert "run `groundcli weights import vgg16.pth`" in shown
    assert len(shown.splitlines()) == 1
