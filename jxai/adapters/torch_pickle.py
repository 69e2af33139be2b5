"""Reads a state dictionary that PyTorch saved, without PyTorch and without trusting the file.

Since PyTorch 1.6 the file is a zip archive: `data.pkl`, a pickle of the object, and `data/KEY`, the little-endian elements of each storage. Before,
it was five pickles (magic number, protocol version, system information, the object, the list of storage keys) and
then, for each key in the list's order, an int64 element count and that many little-endian elements
(`torch.serialization._legacy_save`). A pickle may name any function to be called while it loads; here only the
names below mean anything, and every other one is refused.
"""

import collections
import pathlib
import pickle
import zipfile

import ml_dtypes
import numpy as np

__all__ = ["load"]

_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGES = {
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "BoolStorage": np.dtype("?"),
    "ByteStorage": np.dtype("u1"),
    "CharStorage": np.dtype("i1"),
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "IntStorage": np.dtype("<i4"),
    "LongStorage": np.dtype("<i8"),
    "ShortStorage": np.dtype("<i2"),
}


def load(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the tensors of a file of `torch.save` by name; a dictionary in a dictionary has its names before theirs, with a dot between.

    Raises:
      ValueError: the file names a global outside the allow-list, is truncated, or is no such file.
      FileNotFoundError: there is no such file.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return _read_archive(archive)
        with open(path, "rb") as file:
            return _read(file)
    except _Refused as refused:
        raise ValueError(f"{path} was refused: it asks for {refused}, which no state dictionary needs") from None
    except FileNotFoundError:
        raise
    # A damaged pickle can fail in any way that the virtual machine can: report the file, not the opcode.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"{path} is damaged or no state dictionary of PyTorch ({reason})") from None


class _Refused(Exception):
    pass


class _Unpickler(pickle.Unpickler):
    """Builds ordered dictionaries of lazy tensors, and nothing else."""

    def __init__(self, file):
        super().__init__(file)
        self.storages = {}

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise _Refused(f"{module}.{name}")

    def persistent_load(self, pid):
        kind, dtype, key, _device, size, *view = pid
        if kind != "storage" or view not in ([], [None]):
            raise ValueError(f"unknown persistent object {kind!r}")
        self.storages[key] = (dtype, size)
        return key


class _Tensor:
    """A view of a storage whose bytes come later in the file."""

    def __init__(self, storage, offset, shape, strides, *_):
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def view(self, storages):
        values = storages[self.storage]
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides))
        if min(self.offset, 0, *self.shape, *self.strides) < 0 or last >= values.size:
            raise ValueError("a tensor reaches outside its storage")
        strides = [stride * values.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, strides).copy()


def _read(file):
    if _Unpickler(file).load() != _MAGIC:
        raise ValueError("wrong magic number")
    for _ in range(2):
        _Unpickler(file).load()
    unpickler = _Unpickler(file)
    tensors = unpickler.load()
    storages = {}
    for key in _Unpickler(file).load():
        dtype, size = unpickler.storages[key]
        count = np.frombuffer(file.read(8), "<i8")
        values = np.frombuffer(file.read(size * dtype.itemsize), dtype)
        if count.tolist() != [size] or values.size != size:
            raise ValueError("a storage is shorter than declared")
        storages[key] = values
    return _named(tensors, storages)


def _read_archive(archive):
    root = next(name for name in archive.namelist() if name.endswith("/data.pkl")).removesuffix("data.pkl")
    if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
        raise ValueError("its bytes are in the order of big-endian machines")
    with archive.open(f"{root}data.pkl") as file:
        unpickler = _Unpickler(file)
        tensors = unpickler.load()
    storages = {}
    for key, (dtype, size) in unpickler.storages.items():
        values = np.frombuffer(archive.read(f"{root}data/{key}"), dtype)
        if values.size < size:
            raise ValueError("a storage is shorter than declared")
        storages[key] = values
    return _named(tensors, storages)


def _named(tensors, storages, prefix=""):
    found = {}
    for name, value in tensors.items():
        if isinstance(value, _Tensor):
            found[f"{prefix}{name}"] = value.view(storages)
        elif isinstance(value, dict):
            found |= _named(value, storages, f"{prefix}{name}.")
    return found
