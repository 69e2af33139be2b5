"""Data sets: a source is anything with `len` and `[i] -> Example`. Only `Prepared` needs tensorflow-datasets (not TensorFlow).

- `sources`: what an example is; arrays and scikit-learn's digits. `folder`: images in folders. `medical`: DICOM and NIfTI, as `stored` reads them. `prepared`: TFDS. `named`: each of them by a name.
- `noise`: pictures of nothing. `resized`: a source at another one's size.
- `corruptions`: a source whose pictures are spoilt as by a camera, the weather or a network, at five severities.
- `sentences`: SST-2. `classes`, `table`: what words and `labels.csv` say of labels. `sampling`: which examples, where not all.
- `batches`: batches of one shape, padded, with a mark on what is real. `images`: files to pixels, as models want them.

What may be touched: a new kind of source is a class with `__len__`, `__getitem__` and `name` (which is part of a run's identity, so it must change when the
content does), in a file of its own. Nothing here knows of models, and nothing is downloaded.
"""

from jxai.data.batches import Batch, batches, load
from jxai.data.corruptions import CORRUPTIONS, corrupt, corrupted
from jxai.data.folder import Folder
from jxai.data.medical import Medical
from jxai.data.named import source
from jxai.data.noise import Noise
from jxai.data.prepared import Prepared
from jxai.data.resized import resized
from jxai.data.sampling import sampled
from jxai.data.sentences import sst2
from jxai.data.sources import Arrays, Digits, Example, Source, box_mask

__all__ = [
    "CORRUPTIONS",
    "Arrays",
    "Batch",
    "Digits",
    "Example",
    "Folder",
    "Medical",
    "Noise",
    "Prepared",
    "Source",
    "batches",
    "box_mask",
    "corrupt",
    "corrupted",
    "load",
    "resized",
    "sampled",
    "source",
    "sst2",
]
