"""The reader of PyTorch's files, the legacy ones and the archives, reads what PyTorch wrote and runs nothing."""

import collections
import io
import os
import pickle
import struct
import sys
import types
import zipfile

import numpy as np
import pytest

from jxai.adapters import torch_pickle


class Global:
    """Pickles as a call of `module.name(*args)`."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


def write(path, state, storages, *, cut=0):
    """A legacy file: a storage is named by a persistent id, its elements follow the pickles."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if isinstance(value, np.ndarray):
                key = next(key for key, storage in storages.items() if storage is value)
                return "storage", type(value), key, "cpu", value.size, None
            return None

    buffer = io.BytesIO()
    for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        pickle.dump(value, buffer, protocol=2)
    Pickler(buffer, protocol=2).dump(state)
    pickle.dump(list(storages), buffer, protocol=2)
    for value in storages.values():
        buffer.write(struct.pack("<q", value.size) + value.tobytes())
    content = buffer.getvalue()
    path.write_bytes(content[: len(content) - cut])
    return path


def write_archive(path, state, storages, *, short=0, order="little"):
    """An archive as `torch.save` has written it since PyTorch 1.6."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if isinstance(value, np.ndarray):
                return "storage", type(value), next(key for key, storage in storages.items() if storage is value), "cpu", value.size
            return None

    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump(state)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", buffer.getvalue())
        archive.writestr("a/byteorder", order)
        for key, value in storages.items():
            archive.writestr(f"a/data/{key}", value.tobytes()[short:])
    return path


@pytest.fixture
def torch_names(monkeypatch):
    """Stand-ins for the two torch names of a state dictionary, so that pickle can write them."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    class FloatStorage(np.ndarray):
        pass

    def _rebuild_tensor_v2(*args):
        raise AssertionError("must not be called")

    FloatStorage.__module__, FloatStorage.__qualname__ = "torch", "FloatStorage"
    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    torch.FloatStorage, utils._rebuild_tensor_v2 = FloatStorage, _rebuild_tensor_v2
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return torch, utils


@pytest.fixture
def sample(torch_names):
    torch, utils = torch_names
    storages = {"0": np.arange(8, dtype="<f4").view(torch.FloatStorage)}
    tensor = lambda *args: Global(utils._rebuild_tensor_v2, storages["0"], *args, False, collections.OrderedDict())
    state = collections.OrderedDict(whole=tensor(0, (2, 4), (4, 1)), transposed=tensor(2, (2, 3), (1, 2)))
    return tensor, state, storages


def test_reads_strides_and_offsets(tmp_path, sample):
    _, state, storages = sample
    read = torch_pickle.load(write(tmp_path / "a.pth", state, storages))
    np.testing.assert_array_equal(read["whole"], np.arange(8).reshape(2, 4))
    np.testing.assert_array_equal(read["transposed"], [[2, 4, 6], [3, 5, 7]])


def test_reads_archives_and_dictionaries_in_dictionaries(tmp_path, sample):
    _, state, storages = sample
    read = torch_pickle.load(write_archive(tmp_path / "a.pth", {"model": state, "epoch": 3}, storages))
    assert list(read) == ["model.whole", "model.transposed"]
    np.testing.assert_array_equal(read["model.transposed"], [[2, 4, 6], [3, 5, 7]])
    for damage, words in (({"short": 4}, "shorter than declared"), ({"order": "big"}, "big-endian")):
        with pytest.raises(ValueError, match=rf"a\.pth is damaged.*{words}"):
            torch_pickle.load(write_archive(tmp_path / "a.pth", state, storages, **damage))


@pytest.mark.parametrize("cut", [1, 8, 33, 60, 200])
def test_truncated_file_is_named(tmp_path, sample, cut):
    _, state, storages = sample
    with pytest.raises(ValueError, match=r"a\.pth is damaged") as caught:
        torch_pickle.load(write(tmp_path / "a.pth", state, storages, cut=cut))
    assert "\n" not in str(caught.value)


def test_tensor_outside_its_storage(tmp_path, sample):
    tensor, _, storages = sample
    for args in ((5, (2, 2), (2, 1)), (0, (2, 2), (-1, 1)), (-1, (2,), (1,))):
        with pytest.raises(ValueError, match="outside its storage"):
            torch_pickle.load(write(tmp_path / "a.pth", {"w": tensor(*args)}, storages))


@pytest.mark.parametrize("function, name", [(os.system, "system"), (eval, "eval"), (collections.Counter, "Counter")])
def test_any_other_global_is_refused(tmp_path, function, name):
    """The call is not made, whichever of the five pickles asks for it."""
    marker = tmp_path / "ran"
    command = f"open({str(marker)!r}, 'w')" if function is eval else f"touch {marker}"
    hostile = Global(function, command)
    late = write(tmp_path / "late.pth", {"w": hostile}, {})
    early = tmp_path / "early.pth"
    early.write_bytes(pickle.dumps(hostile, protocol=2))
    archive = write_archive(tmp_path / "archive.pth", {"w": hostile}, {})
    for path in (late, early, archive):
        with pytest.raises(ValueError, match=name) as caught:
            torch_pickle.load(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert not marker.exists()


def test_other_files(tmp_path):
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.pth"):
        torch_pickle.load(tmp_path / "text.pth")
    with pytest.raises(FileNotFoundError):
        torch_pickle.load(tmp_path / "absent.pth")
