"""The training engine: device placement, compiled steps, evaluation and the training loop."""
