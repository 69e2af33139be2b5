"""What a person names on the command line: photographs, models, classes."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jxai import data, models, outputs
from jxai.adapters.recognition import framework
from jxai.callables import compiled, partition
from jxai.cli.errors import UserError, first_line, known, nearest, told
from jxai.data import classes, folder
from jxai.data.batches import to_input
from jxai.data.folder import is_image
from jxai.data.images import grey, refuse_pixels
from jxai.data.medical import Medical, is_medical
from jxai.data.sources import PIXELS


class Unreadable(UserError):
    """What is wrong with one image, and not with the command: of several, the others go on."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """The model that is explained: `model(x) -> [K]`, how a picture becomes x, the names of the classes, x's shape."""

    name: str
    model: Callable
    preprocess: Callable[[Any], Any] | None = None
    class_names: Sequence[str] | None = None
    input_shape: tuple[int, ...] | None = None

    @property
    def num_classes(self) -> int | None:
        """K, where that can be told without an example."""
        if self.class_names is not None:
            return len(self.class_names)
        return None if self.input_shape is None else num_classes(self, np.zeros(self.input_shape, np.float32))

    @property
    def channels(self) -> int | None:
        """1 where x is grey and no preprocessing makes it so; None where pixels are to be as they are."""
        return 1 if self.preprocess is None and self.input_shape is not None and len(self.input_shape) == 3 and self.input_shape[-1] == 1 else None

    def label(self, index: int) -> str:
        """The class's name, or its number where it has none."""
        return str(self.class_names[index]) if self.class_names is not None else f"class {index}"


def subject(name: str) -> Subject:
    """A model of `jxai.models`, or `package.module:factory` with `factory() -> f` (or an object with `.model`)."""
    if ":" in name:
        made = _made_by(name)
    else:
        known("model", name, models.available())
        with told(f"model {name!r}: ", OSError):
            made = models.available()[name].build()
    kind = framework(made if callable(made) else getattr(made, "model", made))
    if kind not in (None, "nnx", "equinox"):  # which are pytree callables as they are
        remedy = "types.SimpleNamespace(model=jxai.adapt(…), preprocess=…, class_names=…)"
        raise UserError(f"model {name!r}: the factory returned a {kind} model, which is adapted first: let it return jxai.adapt(…) of it, or {remedy}")
    if not callable(made) and not hasattr(made, "model"):
        raise UserError(f"model {name!r}: the factory returned {type(made).__name__}, which is neither callable nor has .model")
    extra = {field: getattr(made, field, None) for field in ("preprocess", "class_names", "input_shape")}
    return Subject(name, made if callable(made) else made.model, **extra)


def generator(name: str) -> Any:
    """A generator of `jxai.models.generators`, or `package.module:factory` with `factory() -> generator`."""
    if ":" in name:
        return _made_by(name, "--generator")
    known("generator", name, models.generators())
    with told(f"generator {name!r}: ", OSError):
        return models.generators()[name]()


def photograph() -> Path:
    """The photograph of a cup of coffee that scikit-image's wheel holds (Rachel Michetti, CC0)."""
    from skimage import data

    path = Path(data.__file__).with_name("coffee.png")
    if not path.is_file():
        raise UserError("this scikit-image ships no coffee.png; name an image")
    return path


def image_path(text: str) -> Path | None:
    """The path where the text names an image or an array, None where it names a data set."""
    path = Path(text)
    return path if path.is_file() or path.suffix.lower() == ".npy" or is_image(path) else None


def medical(args: argparse.Namespace, *paths: Path) -> Medical:
    """How `--window`, `--slice` and `--axis` have DICOM and NIfTI files read; `UserError` where they are given and no path is one."""
    window = args.window
    if window not in (None, "file", "units"):
        try:
            center, width = (float(part) for part in window.split(","))
        except ValueError:
            raise UserError(f"--window {window!r} must be CENTER,WIDTH, file or units") from None
        window = center, width
    place = args.slice
    if place not in (None, "all") and not re.fullmatch(r"-?\d+", place):
        raise UserError(f"--slice {place!r} must be an index or all")
    with told("--"):
        how = Medical(window, place if place in (None, "all") else int(place), args.axis)
    if how != Medical() and paths and not any(map(is_medical, paths)):
        raise UserError(f"--window, --slice and --axis say nothing about {paths[0]}, which is no medical file")
    return how


def source(args: argparse.Namespace, name: str, subject: Subject, **options: Any) -> data.Source:
    """The data set of that name as the command line says, with what the model knows of classes and channels."""
    where = dict(split=args.split, data_dir=args.data_dir, label=args.label, medical=medical(args))
    known = dict(class_names=subject.class_names, num_classes=subject.num_classes, channels=subject.channels)
    return data.source(name, **where, **known, **options)


def read(path: Path, how: Medical = Medical()) -> np.ndarray:
    """An image file as pixels `[H, W, 3]` uint8, a medical file as `how` says, or an `.npy` file's floating-point array as it is."""
    if not path.is_file():
        raise Unreadable(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}")
    try:
        if path.suffix != ".npy":
            return folder.read(path, 3, how)
        x = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError, ImportError) as error:
        raise Unreadable(first_line(error) if path.suffix != ".npy" else f"{path} is no readable array ({first_line(error)})") from error
    if not np.issubdtype(x.dtype, np.floating):
        raise Unreadable(f"{path}: x must be floating point (pixels in [0, 1]), got {x.dtype}")
    try:
        refuse_pixels(x, str(path))
    except ValueError as error:
        raise Unreadable(first_line(error)) from error
    return x


def example(path: Path, read: np.ndarray, subject: Subject) -> np.ndarray:
    """The example x, float32: what the model's preprocessing makes of pixels (else the pixels in [0, 1]); floating point as it is."""
    x = read
    if read.dtype in PIXELS:
        if subject.channels == 1:
            read = grey(read)
        try:
            x = to_input(read, subject.preprocess)
        except Exception as error:  # a stranger's preprocessing may raise anything
            raise Unreadable(f"{path}: {subject.name}'s preprocessing failed: {first_line(error)}") from error
    if not np.isfinite(x).all():
        raise Unreadable(f"{path}: {(~np.isfinite(x)).sum()} of {x.size} values are not finite")
    if subject.input_shape is not None and x.shape != tuple(subject.input_shape):
        raise Unreadable(f"{path}: x has shape {x.shape}, but {subject.name} takes {tuple(subject.input_shape)}")
    return x.astype(np.float32)


def num_classes(subject: Subject, x: np.ndarray) -> int:
    """K of the model's `[K]`; `UserError` where the model does not take x or returns anything else."""
    return prediction(subject, x)[0].out_info.shape[0]


def prediction(subject: Subject, x: np.ndarray) -> tuple[Any, tuple]:
    """The model's logits `[K]` of x as a traced program, with its arguments; `UserError` as `num_classes`."""
    arrays, static = partition(subject.model)
    try:
        traced = jax.jit(lambda arrays, x: static.combine(arrays)(x)).trace(arrays, x)
    except Exception as error:  # a stranger's model may raise anything
        raise UserError(f"model {subject.name!r} fails on x of shape {x.shape}: {first_line(error)}") from error
    shape = getattr(traced.out_info, "shape", None)
    if shape is None or len(shape) != 1:
        got = type(traced.out_info).__name__ if shape is None else shape
        raise UserError(f"model {subject.name!r} must return a vector of logits [K], got {got}")
    if subject.class_names is not None and len(subject.class_names) != shape[0]:
        one = "; one logit has one name, of the class that its sigmoid is the probability of" if shape[0] == 1 else ""
        raise UserError(f"model {subject.name!r} returns {shape[0]} logit{'s' * (shape[0] > 1)}, but has {len(subject.class_names)} class_names{one}")
    return traced, (arrays, x)


def check_logits(subject: Subject, x: np.ndarray, logits: np.ndarray) -> None:
    """`UserError` where the model returns probabilities, which a softmax or a sigmoid would spoil."""
    try:
        outputs.check_logits(subject.model, x, outputs.ending(subject.model, x), "probability", compiled, logits)
    except ValueError as error:
        raise UserError(f"model {subject.name!r}: {first_line(error)}") from error


def confidences(logits: np.ndarray, score: str) -> np.ndarray:
    """The sigmoids where they are explained or there is one logit, else the softmax. On the host: five programs for a thousand numbers would
    each be compiled."""
    if score == "sigmoid" or logits.size == 1:
        return np.exp(-np.logaddexp(0, -logits))  # exp(−x) itself overflows
    e = np.exp(logits - logits.max())
    return e / e.sum()


def targets(text: str | None, subject: Subject, num_classes: int) -> list[int] | None:
    """Names or indices of classes, separated by commas (a name goes first, and where names are numbers a number is a name); None asks for the top-1."""
    if text is None:
        return None
    with told("--target: "):
        whole = classes.named(text, subject.class_names)
    found = [whole] if whole is not None else [_target(part.strip(), subject, num_classes) for part in text.split(",")]
    return list(dict.fromkeys(found))


def _target(text: str, subject: Subject, num_classes: int) -> int:
    with told():
        if classes.named(text, subject.class_names) is None and subject.class_names is not None and not re.fullmatch(r"[-+]?\d+", text):
            names = [n.strip() for name in subject.class_names for n in str(name).split(",")]
            raise UserError(f"--target {text!r} is no class of {subject.name}; {nearest(text, names)}")
        return classes.place(text, subject.class_names, num_classes, "--target")


def imported(name: str, flag: str) -> Any:
    """What `package.module:name` stands for, the folder where the command runs among those that are looked in."""
    module, _, attribute = name.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        source = importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{flag} {name}: {first_line(error)}") from error
    except Exception as error:  # whatever a stranger's module raises
        raise UserError(f"{flag} {name}: importing {module} failed: {type(error).__name__}: {first_line(error)}") from error
    finally:
        sys.path.remove(os.getcwd())
    return getattr(source, known(f"name in {module}", attribute, [n for n in vars(source) if not n.startswith("_")]))


def _made_by(name: str, flag: str = "--model") -> Any:
    make, factory = imported(name, flag), name.partition(":")[2]
    try:
        return make()
    except Exception as error:
        raise UserError(f"{flag} {name}: {factory}() failed: {type(error).__name__}: {first_line(error)}") from error
