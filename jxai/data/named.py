"""Sources by name, as the command line takes them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from jxai.data.corruptions import CORRUPTIONS, corrupted
from jxai.data.folder import Folder, existing
from jxai.data.medical import Medical
from jxai.data.prepared import Prepared, found
from jxai.data.sources import Digits, Source


def source(
    name: str,
    *,
    split: str | None = None,
    data_dir: str | os.PathLike | None = None,
    label: str | None = None,
    masks: str | os.PathLike | None = None,
    class_names: Sequence[str] | None = None,
    num_classes: int | None = None,
    channels: int | None = None,
    medical: Medical = Medical(),
) -> Source:
    """The data set that a name stands for: `digits`, an existing folder of images, or a data set of TFDS; any of them corrupted.

    Args:
      name: `"digits"`, a folder, `"mnist"`, `"mnist:3.0.1"` …; with `"+gaussian_noise:3"` after it, or another of `CORRUPTIONS` and its severity, what `corrupted`
        makes of it, and with several of these of one after the other.
      split, data_dir, label, num_classes: of a TFDS data set, see `Prepared`; split also of the digits, see `Digits`.
      masks, class_names: of a folder, see `Folder`. channels: of a folder's pixels; other sources come as they are. medical: how its DICOM and NIfTI files are read.

    Raises:
      ValueError, ImportError: as those say; an option that the source does not take.
    """
    base, spoilt = _parted(name)
    if spoilt is not None:
        how = _corruption(spoilt)
        words = dict(
            split=split, data_dir=data_dir, label=label, masks=masks, class_names=class_names, num_classes=num_classes, channels=channels, medical=medical
        )
        return corrupted(source(base, **words), *how)
    told = None if medical == Medical() else medical
    if name == "digits":
        _none("digits", data_dir=data_dir, label=label, masks=masks, medical=told)
        return Digits(split)
    if _is_folder(name):
        _none("a folder", split=split, data_dir=data_dir, label=label)
        return Folder(name, class_names=class_names, masks=masks, channels=3 if channels is None else channels, medical=medical)
    _none("a TFDS data set", masks=masks, medical=told)
    return Prepared(name, split, data_dir=data_dir, label=label, num_classes=num_classes)


def plain(name: str) -> str:
    """The name of the data set without what it is corrupted by."""
    base, spoilt = _parted(name)
    return name if spoilt is None else plain(base)


def refuse_unknown(name: str, data_dir: str | os.PathLike | None = None) -> None:
    """Raises what `source` does of a name that stands for nothing, before anything of it is read."""
    base, spoilt = _parted(name)
    if spoilt is not None:
        _corruption(spoilt)
        refuse_unknown(base, data_dir)
    elif _is_folder(name):
        existing(name)
    elif name != "digits":
        found(name, data_dir)


def _is_folder(name: str) -> bool:
    return Path(name).is_dir() or os.sep in name


def _parted(name: str) -> tuple[str, str | None]:
    """A data set's name, and the last of what it is corrupted by; None where it is by nothing."""
    base, plus, spoilt = name.rpartition("+")
    return (base, spoilt) if plus and not Path(name).is_dir() else (name, None)


def _corruption(text: str) -> tuple[str, int]:
    name, _, severity = text.partition(":")
    if name not in CORRUPTIONS:
        raise ValueError(f"no corruption {name!r}; there are {', '.join(CORRUPTIONS)}")
    if severity not in ("1", "2", "3", "4", "5"):
        raise ValueError(f"{name} needs a severity from 1 to 5, as +{name}:3; got {severity!r}")
    return name, int(severity)


def _none(what: str, **given) -> None:
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"{name}={value!r} says nothing about {what}")
