"""Weights of a file into a model's leaves: by names and layouts that are said, one to one, or an error that lists what is left over."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from nets import WEIGHTS, X, by_hand, linen_module, nnx_module

import jxai
from jxai.adapters import TORCH_TO_FLAX, load_weights, weight_files

LIKE_TORCH = {
    "features.0.weight": WEIGHTS["conv1"].transpose(3, 2, 0, 1),
    "features.0.bias": WEIGHTS["bias1"],
    "features.1.weight": WEIGHTS["scale"],
    "features.1.bias": WEIGHTS["offset"],
    "features.1.running_mean": WEIGHTS["mean"],
    "features.1.running_var": WEIGHTS["var"],
    "features.1.num_batches_tracked": np.int64(7),
    "features.3.weight": WEIGHTS["conv2"].transpose(3, 2, 0, 1),
    "features.3.bias": WEIGHTS["bias2"],
    "classifier.weight": WEIGHTS["dense"].T,
    "classifier.bias": WEIGHTS["bias3"],
}
"""The network of `nets` as PyTorch would save it."""
RULES = (
    (r"features\.0\.", "conv1."),
    (r"features\.1\.weight", "norm.scale"),
    (r"features\.1\.", "norm."),
    (r"features\.3\.", "conv2."),
    (r"classifier", "dense"),
    (r"weight$", "kernel"),
    (r"running_", ""),
)
OPTIONS = dict(names=RULES, transpose=TORCH_TO_FLAX, ignore=[".*num_batches_tracked"])


@pytest.fixture(scope="module")
def blank():
    """The network with weights that are zero."""
    return jax.tree.map(lambda leaf: jnp.zeros_like(leaf) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, nnx_module())


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_a_file_in_pytorchs_names_and_layouts_gives_the_network(kind, blank, tmp_path):
    path = tmp_path / f"weights.{kind}"
    if kind == "npz":
        np.savez(path, **LIKE_TORCH)
    else:
        pytest.importorskip("safetensors.numpy").save_file({name: np.ascontiguousarray(value) for name, value in LIKE_TORCH.items()}, path)
    model = load_weights(blank, path, **OPTIONS)
    assert isinstance(model, nnx.Module)
    for layer, name in (("conv1", "conv1"), ("conv2", "conv2"), ("dense", "dense")):
        assert (np.asarray(getattr(model, layer).kernel[...]) == WEIGHTS[name]).all()
        assert not np.asarray(getattr(blank, layer).kernel[...]).any()  # the one given stays
    np.testing.assert_allclose(jxai.adapt(model, example=X)(X), by_hand(X), atol=1e-5)


def test_linens_variables_by_a_dictionary_and_by_a_function():
    _, variables = linen_module()
    zeros = jax.tree.map(jnp.zeros_like, variables)
    flat = {"k1": WEIGHTS["conv1"], "k2": WEIGHTS["conv2"], "b1": WEIGHTS["bias1"], "b2": WEIGHTS["bias2"], "w": WEIGHTS["dense"], "b": WEIGHTS["bias3"]}
    flat |= {
        "batch_stats.norm.mean": WEIGHTS["mean"],
        "batch_stats.norm.var": WEIGHTS["var"],
        "g": WEIGHTS["scale"],
        "o": WEIGHTS["offset"],
        "epoch": np.int64(3),
    }
    names = {"k1": "params.conv1.kernel", "k2": "params.conv2.kernel", "b1": "params.conv1.bias", "b2": "params.conv2.bias", "w": "params.dense.kernel"}
    names |= {"b": "params.dense.bias", "g": "params.norm.scale", "o": "params.norm.bias"}
    for option in (dict(names=names, ignore=["epoch"]), dict(names=lambda name: None if name == "epoch" else names.get(name, name))):
        loaded = load_weights(zeros, flat, **option)
        assert jax.tree.structure(loaded) == jax.tree.structure(variables)
        for found, expected in zip(jax.tree.leaves(loaded), jax.tree.leaves(variables)):
            assert (np.asarray(found) == np.asarray(expected)).all()


def test_leaves_may_be_shapes_and_other_types_of_real_numbers():
    shapes = {"w": jax.ShapeDtypeStruct((2, 3), jnp.bfloat16), "count": 7}
    loaded = load_weights(shapes, {"w": np.float32([[1, 2], [3, 4], [5, 6]])}, transpose=[("^w$", np.transpose)])
    assert loaded["w"].dtype == jnp.bfloat16 and loaded["count"] == 7
    np.testing.assert_array_equal(np.asarray(loaded["w"], np.float32), [[1, 3, 5], [2, 4, 6]])


@pytest.mark.parametrize(
    "change, options, words",
    [
        ({}, {}, r"no array for a \[2\], b.c \[2, 3\]; no leaf for x, y\. Say with names="),
        ({"a": np.zeros(2)}, dict(names={"x": "a", "y": "b.c"}), r"several arrays for a \(x, a\)"),
        ({}, dict(names={"z": "a"}), "names that the file does not have: z; it has x, y"),
        ({"x": np.zeros(3)}, dict(names={"x": "a", "y": "b.c"}), r"weights that do not fit: x \[3\], but a is \[2\]"),
        ({"y": np.zeros((2, 3))}, dict(names={"x": "a", "y": "b.c"}, transpose=[("c$", {2: (1, 0)})]), r"y \[3, 2\] after transpose, but b.c is \[2, 3\]"),
        ({"n": np.float32(1)}, dict(names={"x": "a", "y": "b.c"}), "n is float32, but n is int32"),
        ({"x": np.ones(2) + 1j}, dict(names={"x": "a", "y": "b.c"}), "x is complex128, but a is float32"),
        ({"x": np.array([1e300, -np.inf])}, dict(names={"x": "a", "y": "b.c"}), r"x holds 1e\+300, beyond what a, float32, can"),
        ({"n": np.int64(2**40)}, dict(names={"x": "a", "y": "b.c"}), r"n holds 1.*e\+12, beyond what n, int32, can"),
        ({"x": np.zeros(2, "V2")}, dict(names={"x": "a", "y": "b.c"}), r"x is \|V2, a type that the file does not name, .*save it as float32"),
        ({}, dict(names=[("x", r"\9")]), r"names has the replacement '\\\\9' of 'x', which cannot be made"),
        ({}, dict(names=["xa"]), "names must hold pairs of a pattern and what it is for, got 'xa'"),
        ({}, dict(names={"x": "a", "y": "b.c"}, transpose={"c$": {2: (1, 0, 2)}}), r"y \[2, 3\] cannot be moved as transpose says of b.c"),
        ({}, dict(names=[("(", "a")]), r"names has '\(', which is no regular expression"),
        ({}, dict(names={"x": "a", "y": "b.c"}, ignore=["*"]), r"ignore has '\*', which is no regular expression"),
    ],
)
def test_what_is_left_over_or_does_not_fit_is_listed(change, options, words):
    model = {"a": np.zeros(2, np.float32), "b": {"c": np.zeros((2, 3), np.float32)}, "n": np.int32(0)}
    with pytest.raises(ValueError, match=words):
        load_weights(model, {"x": np.ones(2), "y": np.ones((2, 3)), **change}, **options)


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
@pytest.mark.parametrize("kept", [0, 5, -1])
def test_a_file_that_was_cut_is_named(kind, kept, tmp_path):
    path = tmp_path / f"weights.{kind}"
    if kind == "npz":
        np.savez(path, w=np.ones(3))
    else:
        pytest.importorskip("safetensors.numpy").save_file({"w": np.ones(3)}, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=rf"weights\.{kind} is damaged"):
        load_weights({"w": np.ones(3, np.float32)}, path)


def test_what_is_no_file_of_weights_is_said(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError):
        weight_files.read(tmp_path / "absent.npz")
    with pytest.raises(ValueError, match="is a folder, no file of weights .* as Orbax writes it"):
        weight_files.read(tmp_path)
    (tmp_path / "objects.npz").write_bytes(b"")
    np.savez(tmp_path / "objects.npz", w=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r"objects\.npz is damaged or no \.npz of plain arrays"):
        weight_files.read(tmp_path / "objects.npz")
    (tmp_path / "text.npz").write_text("weights")
    with pytest.raises(ValueError, match=r"text\.npz is damaged or no file of weights that is known: \.npz, \.safetensors"):
        weight_files.read(tmp_path / "text.npz")
    (tmp_path / "w.safetensors").write_bytes((8).to_bytes(8, "little") + b"{}      ")
    monkeypatch.setitem(__import__("sys").modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match=r'pip install "jxai\[safetensors\]"'):
        weight_files.read(tmp_path / "w.safetensors")
