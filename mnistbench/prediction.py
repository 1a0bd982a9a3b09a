"""What a model makes of digits that are in no dataset."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from mnistbench.checkpoint import Checkpoint
from mnistbench.errors import CheckpointError
from mnistbench.imaging import Digit


class Prediction(NamedTuple):
    """What a model makes of one image: `probabilities` are 0-1 by the name of the class."""

    image: str
    prediction: int
    probability: float
    inverted: bool
    probabilities: dict[str, float]


def classify(
    checkpoint: Checkpoint, digits: Mapping[Path, Digit], count: int, *, ranked: bool
) -> list[Prediction]:
    """Return the predictions for `digits`, each with the probabilities of `count` classes.

    These are the most probable first if `ranked`, and the first in their own order otherwise.
    Raises `CheckpointError` where the model fails on the images.
    """
    # In steps of 1/255: the model was trained on bytes.
    pixels = np.stack([digit.pixels for digit in digits.values()])
    images = torch.from_numpy(np.round(pixels * 255) / 255).to(torch.float32).unsqueeze(1)
    try:
        probabilities = checkpoint.probabilities(images)
    except Exception as error:  # the plugin's code may raise anything
        told = " ".join(str(error).split())
        raise CheckpointError(f"{checkpoint.facts.model} fails on these images: {told}") from error
    result = []
    for (path, digit), values in zip(digits.items(), probabilities, strict=True):
        order = values.argsort(descending=True) if ranked else torch.arange(len(values))
        result.append(
            Prediction(
                image=str(path),
                prediction=int(values.argmax()),
                probability=float(values.max()),
                inverted=digit.inverted,
                probabilities={str(int(k)): float(values[k]) for k in order[:count]},
            )
        )
    return result
