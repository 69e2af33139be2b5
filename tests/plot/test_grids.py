"""A paper's figure: proper names, palettes by method, scales that are what their bars say, and a PDF with its font."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from jxai import plot
from jxai.plot.blending import colors
from jxai.plot.signs import sign_of

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(2, 6, 8, 3))


def panels(figure):
    """By row, the drawn arrays."""
    axes = [a for a in figure.axes if a.images and a.images[0].get_array().ndim == 3]
    return [a.images[0].get_array() for a in axes], [a.get_title() for a in axes]


def bars(figure):
    return [([t.get_text() for t in a.get_xticklabels()], a.get_xlabel()) for a in figure.axes if a.images[0].get_array().ndim == 2]


def ramp(top, shape=(6, 8, 1)):
    return np.linspace(0, top, np.prod(shape)).reshape(shape)


def test_names_are_proper_and_widths_those_of_a_page():
    maps = dict.fromkeys(("grad_cam", "abs:gradient", "sobol@num_designs=16", "mine"), IMAGES[..., :1])
    for width, inches in (("column", 3.3), ("text", 6.9), (5.0, 5.0)):
        figure = plot.grid(IMAGES, maps, width=width, rows=("a", "b"))
        drawn, titles = panels(figure)
        assert figure.get_figwidth() == inches and len(drawn) == 10 and figure.dpi == 300
        assert [" ".join(title.split()) for title in titles[:5]] == ["", "Grad-CAM", "|Gradient|", "Sobol (num designs 16)", "mine"] and not any(titles[5:])
    assert panels(plot.grid(IMAGES, maps, names={"mine": "Ours"}))[1][4] == "Ours"
    assert {"a", "b"} <= {text.get_text() for text in figure.texts}


def test_a_palette_goes_by_the_method_and_not_by_the_numbers():
    assert [sign_of(label, None) for label in ("gradient", "rise", "abs:gradient", "grad_cam", "grad_cam@relu=False", "mine")] == [
        True,
        False,
        False,
        False,
        True,
        None,
    ]
    assert sign_of("rise", {"rise": True}) is True and sign_of("gradient", False) is False
    positive, dipping = np.stack([ramp(1)] * 2), np.stack([ramp(1) - 0.5] * 2)
    drawn, _ = panels(plot.grid(IMAGES, {"gradient": positive, "rise": dipping}, over=False))
    assert np.allclose(drawn[1][0, 0], colors(0.0, True), atol=1e-6), "0 is white, though nothing is negative"
    assert np.allclose(drawn[2][0, 0], colors(0.0, False), atol=0.02), "and a mean score below 0 is the least, not against the class"


def test_a_shared_scale_is_what_its_bar_says():
    maps = {"gradient": np.stack([ramp(1), ramp(2)]), "input_x_gradient": np.stack([ramp(4), -ramp(8)]), "rise": np.stack([ramp(3), 3 + ramp(1)])}
    options = dict(percentile=100, over=False)
    top = {}
    for scale in ("each", "method", "shared"):
        figure = plot.grid(IMAGES, maps, scale=scale, unit="logit", **options)
        drawn, _ = panels(figure)
        top[scale] = [np.abs(drawn[n][-1, -1] - colors(at, sign)).max() for n, at, sign in ((1, {"each": 1, "method": 0.5, "shared": 1 / 8}[scale], True),)]
        top[scale] += [np.abs(drawn[6][-1, -1] - colors(-1, True)).max()]
        found = bars(figure)
        if scale == "each":
            assert [ticks for ticks, _ in found] == [["against", "0", "for the class"], ["least", "most important"]] and not any(unit for _, unit in found)
        elif scale == "method":
            assert [ticks for ticks, _ in found] == [["−2", "0", "2"], ["−8", "0", "8"], ["0", "4"]] and {unit for _, unit in found} == {"logit"}
        else:
            assert [ticks for ticks, _ in found] == [["−8", "0", "8"], ["0", "4"]]
    assert np.max(list(top.values())) < 1e-6


def test_the_words_below_a_bar_stay_within_its_ends():
    maps = {"gradient": np.stack([ramp(1), ramp(2)]), "rise": np.stack([ramp(3), ramp(1)])}
    for scale in ("each", "method", "shared"):
        figure = plot.grid(IMAGES, maps, scale=scale)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        below = [a for a in figure.axes if a.images[0].get_array().ndim == 2]
        assert len(below) == 2
        for axes in below:
            words, bar = [text.get_window_extent(canvas.get_renderer()) for text in axes.get_xticklabels()], axes.get_window_extent()
            assert min(word.x0 for word in words) >= bar.x0 - 1 and max(word.x1 for word in words) <= bar.x1 + 1


def test_images_of_any_size_keep_their_shape_and_nan_is_seen():
    images = [RNG.uniform(size=(6, 8, 3)), RNG.uniform(size=(12, 4, 1))]
    maps = {"gradient": [ramp(1), np.full((12, 4, 1), np.nan)]}
    figure = plot.grid(images, maps)
    drawn, _ = panels(figure)
    assert [a.shape[:2] for a in drawn] == [(6, 8), (6, 8), (12, 4), (12, 4)] and np.allclose(drawn[3], plot.NOT_FINITE)
    boxes = [a.get_position() for a in figure.axes[:4]]
    inches = [(box.height * figure.get_figheight()) / (box.width * figure.get_figwidth()) for box in boxes]
    assert inches == pytest.approx([0.75, 0.75, 3, 3])


def test_a_pdf_holds_its_font_and_is_the_same_whenever_it_is_written(tmp_path):
    for name in ("a", "b"):
        plot.save(plot.grid(IMAGES, {"gradient": IMAGES}), tmp_path / f"{name}.pdf")
    content = (tmp_path / "a.pdf").read_bytes()
    assert content == (tmp_path / "b.pdf").read_bytes()
    assert b"/FontFile2" in content and b"/Type0" in content and b"/Type3" not in content


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"images": IMAGES[0]}, r"images must be \[n, H, W, C\].*jxai.plot.explanations"),
        ({"images": []}, "one at least"),
        ({"maps": {}}, "at least one method"),
        ({"maps": {"gradient": IMAGES[:1]}}, "a map for each of 2 images, got 1"),
        ({"maps": {"gradient": np.zeros((2, 5, 8, 1))}}, r"must broadcast against images \(6, 8, 3\), got \(5, 8, 1\)"),
        ({"scale": "all"}, "scale='all' must be one of"),
        ({"width": "page"}, "width='page' must be one of column, text, or inches"),
        ({"rows": ("a",)}, "rows must name each of 2 images"),
        ({"rows": np.array(["a", "b", "c"])}, "rows must name each of 2 images"),
        ({"signed": {"gradeint": True}}, "signed tells of 'gradeint'"),
        ({"width": 0.02}, "width=0.02 leaves no room for 1 methods"),
        ({"images": IMAGES[:, :0]}, "images must have pixels"),
        ({"maps": IMAGES}, "maps must hold at least one method, {label: its maps}"),
    ],
)
def test_bad_input(given, word):
    with pytest.raises(ValueError, match=word):
        plot.grid(**{"images": IMAGES, "maps": {"gradient": IMAGES}, **given})
