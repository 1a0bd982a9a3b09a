"""The source of a plugin whose models misbehave, each in its own way, and one that behaves."""

SOURCE = '''
import os, signal, subprocess, sys, time
from pathlib import Path
import torch
from torch import nn
import mnistbench


class Base(nn.Module):
    """A linear classifier that misbehaves in training."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.layer = nn.Linear(784, num_classes)

    def forward(self, images):
        if self.training:
            self.misbehave()
        return self.layer(images.flatten(1))

    def misbehave(self):
        pass


class Good(Base):
    """Behaves."""


class Nan(Base):
    """Yields NaN."""

    def forward(self, images):
        return super().forward(images) * float("nan")


class Greedy(Base):
    """Wants more memory than there is."""

    def misbehave(self):
        torch.empty(2**55, dtype=torch.uint8)


class Endless(Base):
    """Never returns."""

    def misbehave(self):
        while True:
            time.sleep(0.01)


class Quits(Base):
    """Ends its process."""

    def misbehave(self):
        os._exit(3)


class SysExits(Base):
    """Calls sys.exit."""

    def misbehave(self):
        sys.exit(0)


class Segfaults(Base):
    """Dies of a signal."""

    def misbehave(self):
        os.kill(os.getpid(), signal.SIGSEGV)


class Raises(Base):
    """Raises."""

    def misbehave(self):
        raise ValueError("no, thank you\\nand a second line")


class Shape(Base):
    """Forgets one class."""

    def forward(self, images):
        return super().forward(images)[:, 1:]


class Orphan(Base):
    """Leaves a process behind."""

    def __init__(self, num_classes: int, *, pid_file: str):
        super().__init__(num_classes)
        child = subprocess.Popen(["sleep", "600"])
        Path(pid_file).write_text(str(child.pid))


class Slow(Base):
    """Tells its process id, and takes about `seconds` for an epoch of mnist5k."""

    def __init__(self, num_classes: int, *, pid_file: str, seconds: float = 2.0):
        super().__init__(num_classes)
        Path(pid_file).write_text(str(os.getpid()))
        self.pause = seconds / 60

    def misbehave(self):
        time.sleep(self.pause)


@mnistbench.hookimpl
def register_models(register):
    for model in (Good, Nan, Greedy, Endless, Quits, SysExits, Segfaults, Raises, Shape, Orphan,
                  Slow):
        register(model.__name__.lower(), model)
'''
