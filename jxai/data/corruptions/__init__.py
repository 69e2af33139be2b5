"""Pictures spoilt as by a camera, the weather or a network: the nineteen corruptions of ImageNet-C and CIFAR-10-C, at five severities.

- `names`: what they are called, and CIFAR-10-C's parameters. `picture`: of one picture. `cifar10c`: the formulas at CIFAR-10-C's parameters. `sources`: of a data set.

What may be touched: a picture is corrupted from its pixels and a seed alone, so that example i of a data set is the same in whatever order and process it is read; nothing is kept.
"""

from jxai.data.corruptions.names import CORRUPTIONS
from jxai.data.corruptions.picture import corrupt
from jxai.data.corruptions.sources import corrupted

__all__ = ["CORRUPTIONS", "corrupt", "corrupted"]
