"""Data sets: a source is anything with `len` and `[i] -> Example`. Only `Prepared` needs tensorflow-datasets (not TensorFlow)."""

from jxai.data.batches import Batch, batches, load
from jxai.data.folder import Folder
from jxai.data.named import source
from jxai.data.prepared import Prepared
from jxai.data.sources import Arrays, Digits, Example, Source, box_mask

__all__ = ["Arrays", "Batch", "Digits", "Example", "Folder", "Prepared", "Source", "batches", "box_mask", "load", "source"]
