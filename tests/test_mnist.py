"""The four files of MNIST: found, verified and decoded, from real files."""

from __future__ import annotations

import gzip
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mnist_helpers import IMAGES, LABELS, one_line, write

from mnistbench import mnist
from mnistbench.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no folder named: what the developer has set must not matter here."""
    monkeypatch.delenv("MNISTBENCH_DATA", raising=False)
    monkeypatch.setenv("MNISTBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache" / "mnist"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for the user to name."""
    path = tmp_path / "named"
    path.mkdir()
    return path


@pytest.mark.parametrize("subfolder", ["", "MNIST/raw"], ids=["flat", "torchvision"])
@pytest.mark.parametrize("suffix", ["", ".gz"], ids=["unpacked", "gzipped"])
def test_mnist_is_loaded_from_every_layout(
    subfolder: str,
    suffix: str,
    folder: Path,
    unpacked: dict[str, bytes],
    packed: dict[str, bytes],
) -> None:
    write(folder / subfolder, packed if suffix else unpacked, suffix)
    arrays = mnist.load(folder)
    assert arrays.train_images.shape == (60_000, 28, 28)
    assert arrays.test_images.shape == (10_000, 28, 28)
    assert arrays.train_images.tobytes() == unpacked[IMAGES][16:]
    assert arrays.test_labels.tobytes() == unpacked[LABELS][8:]
    # The first labels, as every tutorial prints them.
    assert arrays.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert arrays.test_labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert {array.dtype for array in vars(arrays).values()} == {np.dtype(np.uint8)}


def test_a_gzipped_file_without_the_suffix_is_loaded_too(
    folder: Path, packed: dict[str, bytes]
) -> None:
    write(folder, packed)
    assert mnist.load(folder).train_labels.shape == (60_000,)


def test_the_option_wins_over_the_variable_and_the_variable_over_the_cache(
    tmp_path: Path, cache: Path, unpacked: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(cache, unpacked)
    by_cache = mnist.find()
    write(tmp_path / "variable", unpacked)
    monkeypatch.setenv("MNISTBENCH_DATA", str(tmp_path / "variable"))
    by_variable = mnist.find()
    write(tmp_path / "option", unpacked)
    by_option = mnist.find(tmp_path / "option")
    assert by_cache is not None
    assert by_variable is not None
    assert by_option is not None
    assert (by_cache.origin, by_cache.directory) == ("cache", cache)
    assert (by_variable.origin, by_variable.directory) == ("MNISTBENCH_DATA", tmp_path / "variable")
    assert (by_option.origin, by_option.directory) == ("--data-dir", tmp_path / "option")


def test_an_empty_variable_names_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNISTBENCH_DATA", "")
    assert [location.origin for location in mnist.locations()] == ["cache"]


def test_a_named_folder_with_nothing_of_mnist_is_passed_over(
    folder: Path, cache: Path, unpacked: dict[str, bytes]
) -> None:
    (folder / "something-else.csv").write_text("1,2\n")
    assert mnist.find(folder) is None
    write(cache, unpacked)
    found = mnist.find(folder)
    assert found is not None
    assert found.origin == "cache"


def test_a_named_folder_that_is_not_there_is_an_error(
    tmp_path: Path, cache: Path, unpacked: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(cache, unpacked)
    with pytest.raises(DataError, match=r"--data-dir names .*nowhere, which is not a folder"):
        mnist.find(tmp_path / "nowhere")
    monkeypatch.setenv("MNISTBENCH_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"MNISTBENCH_DATA names .*nowhere, which is not a folder"):
        mnist.load()


def test_one_flipped_bit_in_a_named_folder_is_an_error_that_gives_both_checksums(
    folder: Path, cache: Path, unpacked: dict[str, bytes]
) -> None:
    write(cache, unpacked)  # which must not be used instead
    content = bytearray(unpacked[IMAGES])
    content[30_000_000] ^= 1
    write(folder, unpacked | {IMAGES: bytes(content)})
    for use in (mnist.find, mnist.load):
        with pytest.raises(DataError) as error:
            use(folder)
        message = one_line(error)
        assert str(folder / IMAGES) in message
        assert mnist.FILES[IMAGES] in message
        assert "MD5 is" in message
        assert "replace" in message


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (lambda raw: raw[: len(raw) // 2], "truncated gzip"),
        (lambda raw: raw[:-3], "truncated gzip"),
        (lambda raw: raw[:1000] + b"garbage" + raw[1007:], "damaged gzip"),
        (lambda raw: gzip.compress(bytes(80 << 20), 1), "MD5 is"),
        (lambda raw: b"", "MD5 is"),
    ],
    ids=["half", "without its end", "overwritten", "far too large", "empty"],
)
def test_a_gzipped_file_that_is_damaged_is_an_error_that_says_how(
    damage: Callable[[bytes], bytes], cause: str, folder: Path, packed: dict[str, bytes]
) -> None:
    write(folder, packed | {LABELS: damage(packed[LABELS])}, ".gz")
    with pytest.raises(DataError, match=cause) as error:
        mnist.load(folder)
    assert str(folder / f"{LABELS}.gz") in one_line(error)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_a_gzip_bomb_does_not_fill_the_memory(folder: Path) -> None:
    packer = zlib.compressobj(1, wbits=zlib.MAX_WBITS | 16)
    zeros = bytes(1 << 20)
    bomb = b"".join(packer.compress(zeros) for _ in range(500)) + packer.flush()
    write(folder, {LABELS: bomb}, ".gz")
    script = """
import sys
from mnistbench import mnist
print([file.state.value for file in mnist.locations(sys.argv[1])[0].files])
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""
    command = [sys.executable, "-c", script, str(folder)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    states, peak_kilobytes = answer.stdout.splitlines()
    assert states == "['missing', 'missing', 'missing', 'corrupt']"
    assert int(peak_kilobytes) < 300_000


def test_a_named_folder_with_three_of_the_four_files_is_an_error_that_names_the_fourth(
    folder: Path, cache: Path, unpacked: dict[str, bytes]
) -> None:
    write(cache, unpacked)
    write(folder, {name: unpacked[name] for name in unpacked if name != LABELS})
    with pytest.raises(DataError, match=f"lacks {LABELS} of MNIST's four files") as error:
        mnist.find(folder)
    assert "--data-dir" in one_line(error)


def test_a_good_copy_makes_up_for_a_corrupt_one_beside_it(
    folder: Path, unpacked: dict[str, bytes], packed: dict[str, bytes]
) -> None:
    raw = folder / "MNIST" / "raw"
    write(raw, packed, ".gz")
    write(raw, unpacked | {IMAGES: unpacked[IMAGES][:1_000_000]})
    found = mnist.find(folder)
    assert found is not None
    assert found.files[0].path == raw / f"{IMAGES}.gz"


def test_a_corrupt_file_in_the_cache_is_told_and_not_used(
    cache: Path, unpacked: dict[str, bytes]
) -> None:
    write(cache, unpacked | {LABELS: b"rubbish"})
    assert mnist.find() is None
    (location,) = mnist.locations()
    assert [file.state for file in location.files].count(mnist.State.OK) == 3
    (corrupt,) = location.corrupt
    assert (corrupt.name, corrupt.path) == (LABELS, cache / LABELS)
    assert mnist.FILES[LABELS] in corrupt.reason


def test_mnist_that_is_nowhere_is_an_error_that_names_the_remedies(cache: Path) -> None:
    with pytest.raises(DataError) as error:
        mnist.load()
    message = one_line(error)
    for remedy in ("mnistbench data fetch", "MNISTBENCH_DATA", "--data-dir", str(cache)):
        assert remedy in message


def test_the_module_needs_no_torch() -> None:
    check = "import sys, mnistbench.mnist; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
