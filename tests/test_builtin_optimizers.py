"""The shipped optimizers are torch's own, with every parameter handed on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnistbench.components import Kind
from mnistbench.plugins import discover

OWN = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
}
# Every parameter once, away from its default; each case is checked to differ from the plain one.
CASES: list[tuple[str, dict[str, Any]]] = [
    ("adam", {"lr": 0.02}),
    ("adam", {"lr": 0.02, "betas": (0.5, 0.7)}),
    ("adam", {"lr": 0.02, "eps": 0.1}),
    ("adam", {"lr": 0.02, "weight_decay": 0.3}),
    ("adam", {"lr": 0.02, "betas": (0.5, 0.7), "amsgrad": True}),
    ("adamw", {"lr": 0.02}),
    ("adamw", {"lr": 0.02, "betas": (0.5, 0.7)}),
    ("adamw", {"lr": 0.02, "eps": 0.1}),
    ("adamw", {"lr": 0.02, "weight_decay": 0.3}),
    ("adamw", {"lr": 0.02, "betas": (0.5, 0.7), "amsgrad": True}),
    ("sgd", {"lr": 0.02}),
    ("sgd", {"lr": 0.02, "momentum": 0.5}),
    ("sgd", {"lr": 0.02, "momentum": 0.5, "dampening": 0.3}),
    ("sgd", {"lr": 0.02, "weight_decay": 0.3}),
    ("sgd", {"lr": 0.02, "momentum": 0.5, "nesterov": True}),
    ("rmsprop", {"lr": 0.02}),
    ("rmsprop", {"lr": 0.02, "alpha": 0.5}),
    ("rmsprop", {"lr": 0.02, "eps": 0.1}),
    ("rmsprop", {"lr": 0.02, "weight_decay": 0.3}),
    ("rmsprop", {"lr": 0.02, "momentum": 0.5}),
    ("rmsprop", {"lr": 0.02, "centered": True}),
]


def select(text: str) -> Any:
    registry = discover({"mnistbench"})
    (selection,) = registry.select(Kind.OPTIMIZER, text)
    return registry.create(selection)


def as_text(name: str, parameters: dict[str, Any]) -> str:
    """Return the selection as a user types it."""
    values = {
        key: "x".join(map(str, value)) if isinstance(value, tuple) else str(value).lower()
        for key, value in parameters.items()
    }
    return f"{name}[{','.join(f'{key}={value}' for key, value in values.items())}]"


def after(make: Any, steps: int = 6) -> tuple[torch.optim.Optimizer, Tensor]:
    """Return the optimizer and the weights it comes to on a small problem, always the same."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    inputs, targets = torch.randn(16, 5), torch.randn(16, 3)
    optimizer = make(model.parameters())
    for step in range(steps):
        optimizer.zero_grad()
        # Gradients that shrink, so that amsgrad has something to remember.
        ((model(inputs) - targets).square().mean() / (1 + step)).backward()
        optimizer.step()
    return optimizer, torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize(("name", "parameters"), CASES, ids=lambda value: str(value))
def test_an_optimizer_comes_to_the_weights_that_torchs_own_comes_to(
    name: str, parameters: dict[str, Any]
) -> None:
    ours, weights = after(select(as_text(name, parameters)))
    assert type(ours) is OWN[name]
    for key, value in parameters.items():
        assert ours.defaults[key] == value
    # The defaults but for the learning rate are torch's, but for the momentum of SGD.
    given = {"momentum": 0.9} | parameters if name == "sgd" else parameters
    _, expected = after(lambda params: OWN[name](params, foreach=False, **given))
    torch.testing.assert_close(weights, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [case for case in CASES if set(case[1]) != {"lr"}],
    ids=lambda value: str(value),
)
def test_every_parameter_makes_a_difference(name: str, parameters: dict[str, Any]) -> None:
    *kept, last = parameters
    without = as_text(name, {key: parameters[key] for key in kept})
    _, weights = after(select(as_text(name, parameters)))
    assert not torch.allclose(weights, after(select(without))[1], rtol=1e-4, atol=1e-6), last


@pytest.mark.parametrize("name", OWN)
def test_every_parameter_of_an_optimizer_is_among_the_cases(name: str) -> None:
    offered = set(discover({"mnistbench"}).get(Kind.OPTIMIZER, name).parameters)
    assert offered == set().union(*(case[1] for case in CASES if case[0] == name))


@pytest.mark.parametrize("name", OWN)
def test_the_defaults_of_an_optimizer_are_what_it_is_built_with(name: str) -> None:
    optimizer, _ = after(select(name), steps=1)
    parameters = discover({"mnistbench"}).get(Kind.OPTIMIZER, name).parameters
    for key, parameter in parameters.items():
        assert optimizer.defaults[key] == parameter.default
    assert optimizer.defaults["lr"] > 0


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_the_fused_kernel_is_taken_where_torch_has_one(name: str) -> None:
    assert after(select(name), steps=1)[0].defaults["fused"] is True


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_parameters_that_the_fused_kernel_cannot_take_are_trained_without_it(name: str) -> None:
    weight = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    optimizer = select(as_text(name, {"lr": 0.5}))([weight])
    weight.abs().square().sum().backward()
    optimizer.step()
    assert float(weight.detach().abs().max()) < 1


@pytest.mark.parametrize("name", OWN)
def test_parameters_may_come_from_a_generator(name: str) -> None:
    layer = nn.Linear(3, 2)
    optimizer = select(name)(parameter for parameter in [layer.weight, layer.bias])
    assert optimizer.param_groups[0]["params"] == [layer.weight, layer.bias]


@pytest.mark.parametrize("name", OWN)
def test_a_model_without_parameters_is_torchs_own_error(name: str) -> None:
    with pytest.raises(ValueError, match="empty parameter list"):
        select(name)([])
