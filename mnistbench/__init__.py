"""mnistbench: benchmarks of models, optimizers and augmentations on MNIST-size work.

This module hands names on to plugin authors, and does nothing else:

- `hookimpl` marks the hooks that a plugin implements (see `mnistbench.hookspecs`);
- `ImageDataset` is what a dataset factory returns.
"""

from mnistbench.components import ImageDataset
from mnistbench.hookspecs import hookimpl

__all__ = ["ImageDataset", "__version__", "hookimpl"]
__version__ = "0.1.0"
