"""Plain SGD in PyTorch against steps computed by hand."""

import sys

import numpy as np
import pytest

from jaxdl.methods import torch_losses


def test_losses_by_hand():
    pytest.importorskip("torch")
    squared = lambda torch, p, x, y: torch.nn.MSELoss()(p[0] * x + p[1], y)
    x, y = np.array([[1.0], [2.0]]), np.array([[1.0], [3.0]])
    # errors -1 and -3, mean square 5; dw = -7, db = -4; then -0.89 and -2.82
    found = torch_losses([0.0, 0.0], squared, [(x, y)] * 2, 0.01)
    assert found == pytest.approx([5.0, (0.89**2 + 2.82**2) / 2])


def test_integer_targets_are_classes():
    pytest.importorskip("torch")
    entropy = lambda torch, p, x, y: torch.nn.functional.cross_entropy(x @ p[0], y)
    found = torch_losses([np.zeros((3, 5))], entropy, [(np.ones((7, 3)), np.arange(7, dtype=np.int32) % 5)], 0.1)
    assert found == pytest.approx([np.log(5)])


def test_without_pytorch_an_import_error_is_raised(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError):
        torch_losses([0.0], None, [], 0.1)
