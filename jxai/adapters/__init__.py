"""Models of any framework and convention as pytree callables of one example.

- `adapting`: `adapt(model, …)`, the door: `recognition` tells what it is given, the file of its framework (`nnx`, `linen`, `equinox`, `haiku`,
  `functions` …) makes a `Native` model of it, which is wrapped as it was told or as an example shows (`convention`, `judged`).
- `wrappers`: adapters of one thing each. `inputs`: `jointly` explains several inputs at once.
- `state`: `load_weights` puts the arrays of a file (`weight_files`) into a model's leaves, by a map of names.

What may be touched: a framework is one file, which alone imports it, with `native(model, weights, call) -> Native`, and a line in
`recognition.KINDS`. Weights are leaves, what is no array is static, and nothing is chosen between two readings of a model: the error lists them.
"""

from jxai.adapters.adapting import adapt
from jxai.adapters.inputs import jointly
from jxai.adapters.linen import Linen
from jxai.adapters.state import TORCH_TO_FLAX, load_weights
from jxai.adapters.wrappers import Batched, ChannelsFirst, Holding, LogOdds, LogProbabilities, Output, Pixels, Spread

__all__ = [
    "TORCH_TO_FLAX",
    "Batched",
    "ChannelsFirst",
    "Holding",
    "Linen",
    "LogOdds",
    "LogProbabilities",
    "Output",
    "Pixels",
    "Spread",
    "adapt",
    "jointly",
    "load_weights",
]
