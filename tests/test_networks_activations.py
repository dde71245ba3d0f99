"""The nonlinearities: formula, derivative, PyTorch's forward pass, and the figure."""

from __future__ import annotations

import io

import numpy as np
import pytest

from lastlayer._arrays import InputError
from lastlayer.figures.activations import DEFAULT, activations
from lastlayer.networks import ACTIVATIONS
from lastlayer.solvers.check import check_gradient

# no kink at any of these
POINTS = np.array([-30.0, -3.0, -1.0, -0.3, 0.2, 0.9, 2.5, 30.0])


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_derivatives_are_derivatives(name: str) -> None:
    one = ACTIVATIONS[name]
    found = check_gradient(lambda x: (float(one.value(x).sum()), one.derivative(x)), POINTS)
    assert found.right and found.kinks == 0, str(found)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_pytorch_computes_the_same_with_the_same_derivative(name: str) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: networks are not tested")
    one = ACTIVATIONS[name]
    x = torch.tensor(POINTS, requires_grad=True)
    y = one.forward(x, 0.1)
    np.testing.assert_allclose(y.detach().numpy(), one.value(POINTS, 0.1), rtol=1e-12, atol=1e-12)
    if one.has_gradient:
        y.sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), one.derivative(POINTS, 0.1), rtol=1e-9, atol=1e-12)
    else:
        assert not y.requires_grad


def test_formulas_of_the_lecture() -> None:
    x = np.linspace(-5, 5, 101)
    sigmoid, tanh = ACTIVATIONS["sigmoid"].value, ACTIVATIONS["tanh"].value
    np.testing.assert_allclose(tanh(x), 2 * sigmoid(2 * x) - 1, atol=1e-14)
    s = sigmoid(x)
    np.testing.assert_allclose(ACTIVATIONS["sigmoid"].derivative(x), s * (1 - s), atol=1e-14)
    scaled = ACTIVATIONS["scaled_tanh"]
    np.testing.assert_allclose(scaled.value(np.array([-1.0, 1.0])), [-1.0, 1.0], atol=1e-4)
    leaky = ACTIVATIONS["leaky_relu"]
    assert leaky.value(np.array([-2.0, 3.0])).tolist() == [-0.04, 3.0]
    assert leaky.derivative(np.array([-2.0, 0.0, 3.0])).tolist() == [0.02, 1.0, 1.0]
    step = ACTIVATIONS["step"]
    assert step.value(np.array([-1e-9, 0.0, 2.0])).tolist() == [0.0, 1.0, 1.0]
    assert not step.derivative(x).any() and not step.has_gradient


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_limits_are_limits(name: str) -> None:
    one = ACTIVATIONS[name]
    ends = one.value(np.array([-1e4, 1e4]))
    if one.limits is None:
        assert np.abs(ends).max() > 1e3
    else:
        np.testing.assert_allclose(ends, one.limits, atol=1e-12)
    assert np.isfinite(one.derivative(np.array([-1e4, 1e4]))).all()


def test_the_figure_draws_each_with_its_derivative() -> None:
    pytest.importorskip("matplotlib")
    figure = activations(slope=0.3)
    shown = [axes for axes in figure.axes if axes.lines]
    assert [axes.get_title(loc="left").split("\n")[0] for axes in shown] == list(DEFAULT)
    for axes, name in zip(shown, DEFAULT):
        value, derivative = (line.get_data() for line in axes.lines)
        np.testing.assert_array_equal(value[1], ACTIVATIONS[name].value(value[0], 0.3))
        np.testing.assert_array_equal(derivative[1], ACTIVATIONS[name].derivative(value[0], 0.3))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    assert buffer.getvalue().startswith(b"\x89PNG")


@pytest.mark.parametrize("arguments", [{"names": ()}, {"names": ("relu", "reluu")}, {"low": 2.0, "high": 1.0}])
def test_what_is_no_figure_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(InputError):
        activations(**arguments)  # type: ignore[arg-type]
