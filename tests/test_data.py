"""A dataset as a job sees it: splits, batches, normalisation, and its file."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from training_helpers import CPU, MEAN, STD, denormalised, make_dataset, numbers_of

from mnistbench import data
from mnistbench.components import ImageDataset
from mnistbench.data import Batch, Split
from mnistbench.errors import DataError


@pytest.fixture(scope="module")
def dataset() -> ImageDataset:
    """120 training images, 30 to test."""
    return make_dataset(120, 30)


@pytest.fixture
def everything(dataset: ImageDataset) -> Split:
    return data.split(dataset, 0, CPU)[0]


def numbers_in(split: Split) -> list[int]:
    return numbers_of(split.images.float() / 255)


def order_of(batches: list[Batch]) -> list[int]:
    return [number for images, _ in batches for number in numbers_of(denormalised(images))]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---- Splits


@pytest.mark.parametrize(
    ("asked", "held_out"), [(None, 10), (0, 0), (1, 1), (50, 50), (119, 119)], ids=str
)
def test_validation_and_training_are_disjoint_and_together_complete(
    dataset: ImageDataset, asked: int | None, held_out: int
) -> None:
    training, validation = data.split(dataset, asked, CPU)
    held = numbers_in(validation) if validation else []
    assert (len(training), len(held)) == (120 - held_out, held_out)
    assert sorted(numbers_in(training) + held) == list(range(120))


def test_labels_stay_with_their_images(dataset: ImageDataset) -> None:
    for split in data.split(dataset, 50, CPU):
        assert split is not None
        assert split.labels.tolist() == [number % 10 for number in numbers_in(split)]


def test_the_validation_split_is_a_sample_and_not_one_end_of_the_file(
    dataset: ImageDataset,
) -> None:
    _, validation = data.split(dataset, 60, CPU)
    assert validation is not None
    # Of 60 drawn at random 30 are expected below 60, with a standard deviation of 2.7.
    assert 20 <= sum(number < 60 for number in numbers_in(validation)) <= 40


def test_the_split_does_not_depend_on_any_seed(dataset: ImageDataset) -> None:
    held_out = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        _, validation = data.split(dataset, 50, CPU)
        assert validation is not None
        held_out.append(numbers_in(validation))
    assert held_out[0] == held_out[1]


def test_the_split_leaves_torchs_own_generator_alone(dataset: ImageDataset) -> None:
    before = torch.get_rng_state()
    data.split(dataset, 50, CPU)
    assert torch.equal(torch.get_rng_state(), before)


def test_without_validation_the_training_split_keeps_the_order_of_the_dataset(
    dataset: ImageDataset,
) -> None:
    training, validation = data.split(dataset, 0, CPU)
    assert validation is None
    assert numbers_in(training) == list(range(120))


def test_the_test_split_is_the_test_set(dataset: ImageDataset) -> None:
    split = data.test_split(dataset, CPU)
    assert numbers_in(split) == [-1 - number for number in range(30)]
    assert split.labels.tolist() == dataset.test_labels.tolist()
    assert (split.mean, split.std) == (MEAN, STD)


@pytest.mark.parametrize(
    ("asked", "images", "size"),
    [(None, 60_000, 5_000), (None, 4_000, 333), (None, 11, 0), (0, 60_000, 0), (7, 8, 7)],
)
def test_the_validation_size_is_what_was_asked_or_a_twelfth(
    asked: int | None, images: int, size: int
) -> None:
    assert data.validation_size(asked, images) == size


@pytest.mark.parametrize("asked", [4_000, 5_000])
def test_a_validation_split_that_leaves_nothing_to_train_on_is_refused(asked: int) -> None:
    with pytest.raises(DataError) as caught:
        data.validation_size(asked, 4_000)
    assert str(caught.value) == (
        f"--validation {asked} leaves nothing to train on: the dataset has 4000 training images"
    )


# ---- Batches


def test_each_epoch_is_a_permutation_of_the_images(everything: Split) -> None:
    generator = seeded(0)
    epochs = [order_of([*everything.shuffled(7, generator, None)]) for _ in range(3)]
    for order in epochs:
        assert sorted(order) == list(range(120))
    assert len({tuple(order) for order in [*epochs, range(120)]}) == 4


def test_the_order_depends_on_the_generator_alone(everything: Split) -> None:
    orders = []
    for seed, generator_seed in ((0, 5), (1, 5), (0, 6)):
        torch.manual_seed(seed)
        orders.append(order_of([*everything.shuffled(7, seeded(generator_seed), None)]))
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]


def test_the_order_is_the_same_for_every_batch_size_and_with_augmentation(
    everything: Split,
) -> None:
    def leave(images: Tensor) -> Tensor:
        return images

    orders = [
        order_of([*everything.shuffled(size, seeded(5), augment)])
        for size, augment in ((1, None), (7, None), (120, None), (1000, None), (7, leave))
    ]
    assert all(order == orders[0] for order in orders)


@pytest.mark.parametrize(
    ("batch_size", "sizes"),
    [
        (1, [1] * 120),
        (7, [7] * 17 + [1]),  # more than the 16 batches that are gathered at once
        (40, [40, 40, 40]),
        (50, [50, 50, 20]),
        (120, [120]),
        (500, [120]),
    ],
)
def test_only_the_last_batch_is_smaller(
    everything: Split, batch_size: int, sizes: list[int]
) -> None:
    for batches in (
        [*everything.shuffled(batch_size, seeded(0), None)],
        [*everything.in_order(batch_size)],
    ):
        assert [len(images) for images, _ in batches] == sizes
        assert [len(labels) for _, labels in batches] == sizes


def test_shuffled_labels_belong_to_their_images(everything: Split) -> None:
    for images, labels in everything.shuffled(7, seeded(0), None):
        assert labels.tolist() == [number % 10 for number in numbers_of(denormalised(images))]


def test_in_order_yields_the_dataset_as_it_stands(everything: Split) -> None:
    batches = [*everything.in_order(7)]
    assert order_of(batches) == list(range(120))
    assert [n for _, labels in batches for n in labels.tolist()] == everything.labels.tolist()


def test_the_head_goes_round_where_there_are_too_few_images(everything: Split) -> None:
    assert numbers_in(everything.head(3)) == [0, 1, 2]
    assert numbers_in(everything.head(250)) == [*range(120), *range(120), *range(10)]
    assert everything.head(122).labels.tolist()[-3:] == [9, 0, 1]


# ---- Normalisation and augmentation


def test_images_are_normalised_as_by_hand() -> None:
    # 0, 51, 102 and 255 are 0, 1/5, 2/5 and 1 of white; less 0.1, times 2.
    pixels = torch.tensor([0, 51, 102, 255], dtype=torch.uint8).view(4, 1, 1, 1)
    split = Split(pixels, torch.arange(4), mean=0.1, std=0.5)
    images = split.normalise(pixels)
    assert images.dtype == torch.float32
    assert images.flatten().tolist() == pytest.approx([-0.2, 0.2, 0.6, 1.8], abs=1e-6)
    assert pixels.flatten().tolist() == [0, 51, 102, 255]


def test_normalised_training_images_have_mean_0_and_standard_deviation_1(
    dataset: ImageDataset,
) -> None:
    pixels = dataset.train_images.double() / 255
    measured = replace(dataset, mean=float(pixels.mean()), std=float(pixels.std()))
    split, _ = data.split(measured, 0, CPU)
    ((images, _),) = split.shuffled(120, seeded(0), None)
    assert float(images.mean()) == pytest.approx(0, abs=1e-5)
    assert float(images.std()) == pytest.approx(1, abs=1e-5)


def test_augmentation_is_given_floats_from_0_to_1_and_its_result_is_normalised(
    everything: Split,
) -> None:
    seen: list[Tensor] = []

    def darken(images: Tensor) -> Tensor:
        seen.append(images.clone())
        return images / 2

    plain = [*everything.shuffled(50, seeded(0), None)]
    dark = [*everything.shuffled(50, seeded(0), darken)]
    assert [batch.shape for batch in seen] == [(50, 1, 28, 28), (50, 1, 28, 28), (20, 1, 28, 28)]
    for batch, (images, labels), (darker, same_labels) in zip(seen, plain, dark, strict=True):
        assert batch.dtype == darker.dtype == torch.float32
        assert (float(batch.min()), float(batch.max())) == (0, 1)
        assert torch.equal(labels, same_labels)
        torch.testing.assert_close(batch, denormalised(images))
        torch.testing.assert_close(darker, (batch / 2 - MEAN) / STD)


def test_an_augmentation_that_works_in_place_leaves_the_dataset_alone(
    everything: Split,
) -> None:
    before = everything.images.clone()
    batches = everything.shuffled(50, seeded(0), lambda images: images.zero_())
    assert all(bool((images == -MEAN / STD).all()) for images, _ in batches)
    assert torch.equal(everything.images, before)


# ---- The file


def test_what_was_prepared_is_loaded_again(dataset: ImageDataset, tmp_path: Path) -> None:
    path = tmp_path / "set.pt"
    data.prepare(dataset, path)
    loaded = data.load(path)
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        there, here = getattr(loaded, name), getattr(dataset, name)
        assert there.dtype == here.dtype
        assert torch.equal(there, here)
    assert (loaded.num_classes, loaded.mean, loaded.std) == (10, MEAN, STD)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows a process's mappings")
def test_a_loaded_dataset_is_mapped_and_not_read(dataset: ImageDataset, tmp_path: Path) -> None:
    path = tmp_path / "set.pt"
    data.prepare(dataset, path)
    loaded = data.load(path)
    start = loaded.train_images.data_ptr()
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(address, 16) for address in line.split()[0].split("-"))
        if first <= start < last:
            assert line.endswith(str(path))
            return
    pytest.fail("the images are nowhere in memory")


def test_what_numpy_computed_can_be_loaded_again(dataset: ImageDataset, tmp_path: Path) -> None:
    pixels = dataset.train_images.numpy() / 255
    computed = replace(
        dataset, num_classes=np.int64(10), mean=pixels.mean(), std=np.float32(pixels.std())
    )
    data.prepare(computed, tmp_path / "set.pt")
    loaded = data.load(tmp_path / "set.pt")
    assert loaded.mean == float(pixels.mean())
    assert loaded.std == pytest.approx(float(pixels.std()))
    assert Counter(map(type, (loaded.num_classes, loaded.mean, loaded.std))) == {int: 1, float: 2}


class Interrupting:
    """Stands for the moment when the user loses patience, half-way through writing."""

    def __reduce__(self) -> str:
        raise KeyboardInterrupt


def test_an_interrupted_prepare_leaves_nothing_that_is_believed(
    dataset: ImageDataset, tmp_path: Path
) -> None:
    path = tmp_path / "set.pt"
    torn = replace(dataset, test_labels=Interrupting())
    with pytest.raises(KeyboardInterrupt):
        data.prepare(torn, path)
    assert not path.exists()
    data.prepare(dataset, path)
    assert torch.equal(data.load(path).test_labels, dataset.test_labels)


def test_an_interrupted_prepare_leaves_an_earlier_file_as_it_was(
    dataset: ImageDataset, tmp_path: Path
) -> None:
    path = tmp_path / "set.pt"
    data.prepare(dataset, path)
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        data.prepare(replace(dataset, test_labels=Interrupting()), path)
    assert path.read_bytes() == before
