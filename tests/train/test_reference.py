"""Training steps equal those of the original graph (tests/reference/train_*.npz: six steps of VIE-Fast, IR and LA)."""

import numpy as np
import pytest
import torch
from support.reference import reference_batch, reference_run, reference_steps

from vie_models.models import blocks
from vie_models.models.blocks import NormAct
from vie_models.train import Run
from vie_models.weights.tensorflow.names import tf_names

KINK = (11, 65078)
"""Which ReLU (the 12th of the pass) and which of its values: before it, in the first step, that is 3.6e-6 for us, next to zero;
rounding in float32 decides whether its gradient flows, and the original's was on the other side."""


def relative_error(ours: torch.Tensor, reference, key: str) -> float:
    """|ours - reference| / |reference|, over the values that the reference has kept."""
    value = ours.detach().numpy()
    if key.endswith("kernel"):  # (out, in, ...) -> (..., in, out)
        value = np.moveaxis(value, (1, 0), (-2, -1))
    expected = reference[f"{key}|values"]
    value = value.ravel()[:: int(reference[f"{key}|stride"])][: len(expected)]
    return float(np.linalg.norm(value - expected) / np.linalg.norm(expected))


def gradient_errors(run: Run, reference) -> dict[str, float]:
    """Of every parameter's gradient, with the L2 term, which the optimizer adds."""
    norms = {id(p) for m in run.model.modules() if isinstance(m, NormAct) for p in m.parameters()}
    parameters = dict(run.model.named_parameters())
    errors = {}
    for name, key in tf_names(run.model).items():
        if key in parameters:
            p = parameters[key]
            gradient = p.grad + (0 if id(p) in norms else run.config.weight_decay) * p
            errors[name] = relative_error(gradient, reference, f"grad0|{name}")
    return errors


def turned_at(place: tuple[int, int]):
    """A relu that gives one value of one call the other sign."""
    calls = 0

    def relu(x, inplace=False):
        nonlocal calls
        if calls == place[0]:
            value = x.detach().flatten()[place[1]]
            assert value.abs() < 1e-5
            x = x.flatten().index_add(0, torch.tensor([place[1]]), -2 * value[None]).view(x.shape)
        calls += 1
        return torch.relu(x)

    return relu


@pytest.mark.parametrize("task", ["IR", "LA"])
def test_six_steps_equal_the_reference(task, tmp_path):
    run, reference = reference_run(task, tmp_path)
    assert list(reference_steps(run, reference)) == pytest.approx(list(reference["loss"]), rel=1e-5)  # asked for: 1e-3
    bank = reference["memory_bank_final"]
    assert np.linalg.norm(run.objective.bank.rows.numpy() - bank) < 1e-4 * np.linalg.norm(bank)
    state = run.model.state_dict()
    final = {name: relative_error(state[key], reference, f"final|{name}") for name, key in tf_names(run.model).items()}
    assert max(final.values()) < 5e-4, sorted(final.items(), key=lambda item: item[1])[-3:]


@pytest.mark.parametrize("task", ["IR", "LA"])
def test_first_gradients_equal_the_reference(task, tmp_path, monkeypatch):
    """To 1e-4 in every parameter, with the value at its kink on the side where the original had it."""
    run, reference = reference_run(task, tmp_path)
    monkeypatch.setattr(run.optimizer, "step", lambda: None)
    monkeypatch.setattr(blocks.F, "relu", turned_at(KINK))
    run.train_step(reference_batch(run, reference, 0))
    errors = gradient_errors(run, reference)
    assert len(errors) == 21 + 2 * 17 + 2  # convolutions, norms, head
    assert max(errors.values()) < 1e-4, sorted(errors.items(), key=lambda item: item[1])[-3:]
