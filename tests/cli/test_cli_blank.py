"""`jxai explain` says which methods replace what they remove by something that has the explained class by itself."""

import numpy as np

from jxai import cli
from jxai.cli import explain


def test_a_fill_of_the_explained_class_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(explain, "_write", lambda *given: None)
    (tmp_path / "shade.py").write_text("import jax.numpy as jnp\n\n\ndef make():\n    return lambda x: jnp.stack([0.7 - x.mean(), x.mean()])\n")
    np.save("x.npy", np.full((4, 4, 1), 0.2, np.float32))
    assert not cli.main(["explain", "x.npy", "--model", "shade:make", "--methods", "gradient,occlusion,feature_ablation", "--feature_ablation.fill", "1"])
    said = [line for line in capsys.readouterr().out.splitlines() if "all replaced by" in line]
    assert said == ["  all replaced by 0 it is class 0 already: what occlusion removes takes nothing of that away; try another fill, such as blur:10"]
