"""Data sets that tensorflow-datasets has prepared, read at random places without TensorFlow."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np

from jxai.data.images import refuse_pixels
from jxai.data.sources import NO_LABEL, Example, box_mask


class Prepared:
    """A split of a data set that TFDS has prepared as array_record files.

    Args:
      name: of the data set, as `"cifar10"` or `"cifar10:3.0.2"`.
      split: as TFDS spells it, as `"test"` or `"test[:256]"`; None takes "test", "validation" or the only one.
      data_dir: where it is prepared; None is `$JXAI_DATA/tfds`, or else `../shared/tfds` where that exists, or else TFDS's own folder.
      label: the label's feature; None takes "label", or the only `ClassLabel` with `num_classes` classes where that is not "label".
      num_classes: K of the model that it is for.

    An example is the feature "image" (or "video", or else "features": one vector of all its numbers, by name). A feature "bbox"
    (ymin, xmin, ymax, xmax as shares) becomes the mask, and so does "segmentation_mask" or "mask" (non-zero is the object).

    Raises:
      ImportError: tensorflow-datasets is not installed.
      ValueError: it is not prepared there (the message says how to do that), or has no such split or feature.
    """

    def __init__(
        self,
        name: str,
        split: str | None = None,
        *,
        data_dir: str | os.PathLike | None = None,
        label: str | None = None,
        num_classes: int | None = None,
    ):
        builder, folder = found(name, data_dir)
        split = _split(builder, split)
        try:
            self._data = builder.as_data_source(split=split)
        except NotImplementedError:
            raise ValueError(_unprepared(name, folder)) from None
        except ValueError as error:
            empty = "of 0 length" in str(error)
            raise ValueError(f"{split=} of {name} is empty" if empty else f"{split=} of {name}: {_line(error)}") from None
        features = builder.info.features
        self._input = next((k for k in ("image", "video", "features") if k in features), None)
        if self._input is None:
            raise ValueError(f"{name} has no feature image, video or features, but {', '.join(features)}")
        self._label = _label(features, label, num_classes, name)
        names = getattr(features[self._label], "names", None) if self._label else None
        self.class_names = None if names is None else tuple(names)
        self.name = f"{builder.info.full_name}:{split}" + ("" if self._label in ("label", None) else f":{self._label}")

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> Example:
        record = self._data[index]
        pixels = _array(record[self._input])
        label = NO_LABEL if self._label is None else int(record[self._label])
        name = record.get("file_name", record.get("id", str(index)))
        return Example(pixels, label, _mask(record, pixels), name.decode() if isinstance(name, bytes) else str(name))


def place() -> Path | None:
    """The folder of prepared data sets where none is named: `$JXAI_DATA/tfds`, or else `../shared/tfds`; None where neither is there, and TFDS's own counts."""
    places = [Path(os.environ["JXAI_DATA"]) / "tfds"] if os.environ.get("JXAI_DATA") else []
    places += [root / ".." / "shared" / "tfds" for root in (Path.cwd(), Path(__file__).resolve().parents[2])]
    return next((place for place in places if place.is_dir()), None)


def home() -> Path:
    """`place()`, or else TFDS's own folder."""
    return place() or Path(os.path.expanduser(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"))


def there() -> list[str]:
    """The data sets that are prepared in `home()`; needs no TFDS."""
    return sorted({info.parent.parent.name for info in home().glob("*/*/dataset_info.json")})


def found(name: str, data_dir: str | os.PathLike | None) -> tuple[Any, Any]:
    """TFDS's builder of a data set, and the folder where it is prepared; raises as `Prepared` where there is none."""
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise ImportError("prepared data sets need tensorflow-datasets: pip install 'jxai[tfds]'") from None
    folder = place() if data_dir is None else Path(data_dir)
    logging.getLogger("absl").setLevel(logging.ERROR)  # it warns of every folder that it looks into
    try:
        builder = tfds.builder(name, **({} if folder is None else {"data_dir": folder}))
    except tfds.core.registered.DatasetNotFoundError:
        there = sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder is not None else []
        raise ValueError(f"no data set {name!r}; {'prepared here: ' + ', '.join(there) if there else 'TFDS knows none of that name'}") from None
    if not builder.info.splits:
        raise ValueError(_unprepared(name, builder.data_dir))
    return builder, builder.data_dir


def _unprepared(name: str, folder: Any) -> str:
    return (
        f'{name} is not prepared as array_record in {folder}; where TensorFlow is installed, run: python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder({name!r}, data_dir=…, file_format='array_record').download_and_prepare()\", and name the folder by JXAI_DATA or data_dir"
    )


def _split(builder, split: str | None) -> str:
    known = list(builder.info.splits)
    if split is None:
        split = next((s for s in ("test", "validation") if s in known), known[0] if len(known) == 1 else None)
        if split is None:
            raise ValueError(f"{split=} of {builder.info.full_name} must be one of {', '.join(known)}")
    return split


def _label(features, label: str | None, num_classes: int | None, name: str) -> str | None:
    if label is not None:
        if label not in features:
            raise ValueError(f"{label=} is no feature of {name}, which has {', '.join(features)}")
        return label
    fits = [k for k, v in features.items() if num_classes is not None and getattr(v, "num_classes", None) == num_classes]
    if "label" in features and ("label" in fits or len(fits) != 1):
        return "label"
    return fits[0] if len(fits) == 1 else None


def _array(value: Any) -> np.ndarray:
    """Pixels as they are; numbers by name as one vector, float32."""
    if isinstance(value, dict):
        value = np.concatenate([np.ravel(np.asarray(value[name], np.float32)) for name in sorted(value)])
    value = np.asarray(value)
    if value.ndim > 2:
        if value.dtype.kind in "iu" and value.dtype != np.uint8:
            raise ValueError(f"its pixels are {value.dtype}, whose range is not told; pixels must be uint8, or floating point as the model takes them")
        refuse_pixels(value, "the example")
    return value if value.dtype == np.uint8 else value.astype(np.float32)


def _mask(record: dict, pixels: np.ndarray) -> np.ndarray | None:
    if "bbox" in record and pixels.ndim == 3:
        return box_mask(pixels.shape[:2], record["bbox"])
    for name in ("segmentation_mask", "mask"):
        if name in record:
            return np.asarray(record[name]).reshape(pixels.shape[:2]) > 0
    return None


def _line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]
