"""The same training in PyTorch, to compare losses. It needs the extra `peers`."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from jaxdl.extras import require


def torch_losses(
    start: Iterable[Any], loss: Callable[..., Any], batches: Iterable[tuple[np.ndarray, np.ndarray]], rate: float
) -> np.ndarray:
    """Trains with plain SGD in PyTorch, w <- w - rate dL/dw, and returns the loss before each update.

    Args:
      start: initial values of the parameters, arrays, converted to float32.
      loss: (torch, parameters, x, y) -> scalar tensor; x is float32, y int64 if it has integers and float32 otherwise.
      batches: pairs (x, y), one for each step.
      rate: learning rate.

    Returns:
      Losses [steps], float64.

    Raises:
      MissingExtra: if PyTorch is not installed.
    """
    torch = require("torch", "peers", "torch_losses")
    parameters = [torch.tensor(np.asarray(value, np.float32), requires_grad=True) for value in start]
    optimizer, history = torch.optim.SGD(parameters, lr=rate), []
    for x, y in batches:
        target = torch.tensor(np.asarray(y, np.int64 if np.asarray(y).dtype.kind in "iu" else np.float32))
        value = loss(torch, parameters, torch.tensor(np.asarray(x, np.float32)), target)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        history.append(value.item())
    return np.array(history)
