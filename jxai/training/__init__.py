"""One small training loop for the classifiers and generators that explanations need, resumed bit for bit after it was killed.

- `train`: `train(model, loss, data, …)` and `train_seeds`, the public ones. `loop` is the host's side: which examples come when, when it ends.
- `updates`: the compiled steps, which know parts, seeds and what of a model is trained.
- `checkpoint`: pytrees on the disk, whole or skipped. `batch_norm`: a model of single examples, trained on what a batch shares, then settled.

What may be touched: losses live beside their models (`jxai.models`), not here. What a training depends on belongs into its identity (`loop`).
"""

__all__ = ["batch_norm", "checkpoint", "loop", "train", "updates"]
