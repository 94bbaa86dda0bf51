"""The training loops of the notes' two PyTorch scripts, to hold their losses beside ours."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def line_losses(x: np.ndarray, y: np.ndarray, start: np.ndarray, rate: float, steps: int) -> np.ndarray:
    """Losses [steps] of the notes' linear regression from the given slope and intercept.

    Raises:
      ImportError: PyTorch is not installed.
    """
    import torch

    inputs, targets = torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
    w, b = (torch.tensor(value, dtype=torch.float32, requires_grad=True) for value in start)
    criterion, optimizer, history = torch.nn.MSELoss(), torch.optim.SGD([w, b], lr=rate), []
    for _ in range(steps):
        loss = criterion(w * inputs + b, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    return np.array(history)


def net_losses(params: Any, batches: Sequence[Any], rate: float) -> np.ndarray:
    """Losses of the notes' two-layer net, softmax and then CrossEntropyLoss, one for each (x [B, D], y [B]) of batches.

    Raises:
      ImportError: PyTorch is not installed.
    """
    import torch

    layers = [torch.tensor(np.asarray(params[f"Dense_{i}"][name])) for i in (0, 1) for name in ("kernel", "bias")]
    w, b, v, c = (layer.requires_grad_() for layer in layers)
    criterion, optimizer, history = torch.nn.CrossEntropyLoss(), torch.optim.SGD([w, b, v, c], lr=rate), []
    for x, y in batches:
        loss = criterion(torch.softmax(torch.relu(torch.tensor(x) @ w + b) @ v + c, dim=1), torch.tensor(y).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    return np.array(history)
