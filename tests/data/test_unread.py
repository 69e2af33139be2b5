"""Examples that cannot be read, or not used: what is known of them all the same."""

import numpy as np
from PIL import Image

from jxai import data


def test_rows_of_what_cannot_be_read_carry_their_own_name_and_label(tmp_path):
    """A file that is no picture, and pictures that do not fit: the label is known without them; a source that cannot tell says −1 and \"\"."""
    rng = np.random.default_rng(0)
    for label, name in ((0, "a"), (0, "b"), (1, "c"), (1, "broken"), (1, "larger")):
        (tmp_path / "images" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9 if name == "larger" else 8, 8), np.uint8)).save(tmp_path / f"images/{label}/{name}.png")
    (tmp_path / "images/1/broken.png").write_bytes(b"no picture")
    grey = lambda pixels: np.float32(pixels[..., :1]) / 255
    source = data.Folder(tmp_path / "images")
    read = data.load(source, range(5), None, grey)
    assert read.names == ("0/a.png", "0/b.png", "1/broken.png", "1/c.png", "1/larger.png")
    assert read.label.tolist() == [0, 0, 1, 1, 1] and read.valid.tolist() == [True, True, False, True, False]

    class Blind:
        name, class_names, __len__ = "blind", None, lambda self: 5
        __getitem__ = lambda self, i: source[i]

    blind = data.load(Blind(), range(5), None, grey)
    assert blind.names == ("0/a.png", "0/b.png", "", "1/c.png", "1/larger.png") and blind.label.tolist() == [0, 0, -1, 1, 1]
