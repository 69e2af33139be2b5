"""Reads a state dictionary that PyTorch saved in its legacy format, without PyTorch and without trusting the file.

The file is five pickles (magic number, protocol version, system information, the object, the list of storage keys) and
then, for each key in the list's order, an int64 element count and that many little-endian elements
(`torch.serialization._legacy_save`). A pickle may name any function to be called while it loads; here only the four
names below mean anything, and every other one is refused.
"""

import collections
import pathlib
import pickle

import numpy as np

__all__ = ["load"]

_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


def load(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the tensors of a `.pth` file by name, as float32 or int64 arrays.

    Raises:
      ValueError: the file names a global outside the allow-list, is truncated, or is no legacy PyTorch file.
      FileNotFoundError: there is no such file.
    """
    try:
        with open(path, "rb") as file:
            return _read(file)
    except _Refused as refused:
        raise ValueError(f"{path} was refused: it asks for {refused}, which no state dictionary needs") from None
    except FileNotFoundError:
        raise
    # A damaged pickle can fail in any way that the virtual machine can: report the file, not the opcode.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"{path} is damaged or no legacy PyTorch file ({reason})") from None


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
        kind, dtype, key, _device, size, view = pid
        if kind != "storage" or view is not None:
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
    return {name: tensor.view(storages) for name, tensor in tensors.items() if isinstance(tensor, _Tensor)}
