"""What pictures of attributions show: scales, clipping, colours, opacity, and files that are whole or absent."""

import io

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matplotlib.backends.backend_agg import FigureCanvasAgg

from jxai import plot
from jxai.files import atomic, save_arrays

WHITE_GROUND = None


def rgb(image, **arguments):
    return plot.blend(WHITE_GROUND, image, **{"percentile": 100, "alpha": 1.0, **arguments})


def pixels(figure):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3] / 255


# Scales


@given(hnp.arrays(np.float32, (5, 6), elements=st.floats(-1e3, 1e3, width=32)))
def test_signed_limits_are_symmetric_and_zero_and_sign_survive(a):
    scaled = plot.normalize(a, signed=True)
    assert scaled.low == -scaled.high
    assert np.abs(scaled.values).max() <= 1
    assert (scaled.values[a == 0] == 0).all()
    assert (scaled.values[a > 1e-30] >= 0).all() and (scaled.values[a < -1e-30] <= 0).all()


def test_signed_values_are_clipped_at_the_percentile_of_the_magnitude():
    a = np.concatenate([np.arange(-49, 51), [1000.0]]).astype(np.float32)
    scaled = plot.normalize(a, percentile=99)
    assert scaled.high == np.percentile(np.abs(a), 99) == 50
    np.testing.assert_allclose(scaled.values, np.clip(a / 50, -1, 1), rtol=1e-6)


def test_unsigned_values_span_the_two_percentiles():
    a = np.arange(101, dtype=np.float32)
    scaled = plot.normalize(a, percentile=90)
    assert (scaled.signed, scaled.low, scaled.high) == (False, 10.0, 90.0)
    np.testing.assert_allclose(scaled.values, np.clip((a - 10) / 80, 0, 1), rtol=1e-6)
    # A dip of a hundredth, as a resize leaves one, is no sign; what the method says goes before it.
    assert plot.normalize(a - 20).signed and not plot.normalize(a - 1).signed and plot.normalize(a - 1, signed=True).signed


def test_a_sparse_map_whose_percentile_is_zero_still_shows_its_extreme():
    a = np.zeros(1000, np.float32)
    a[3] = -2.0
    assert plot.normalize(a).values[3] == -1
    a[3] = 2.0
    assert plot.normalize(a).values[3] == 1 and plot.normalize(a).values.sum() == 1


@pytest.mark.parametrize("value", [0.0, 0.7])
def test_a_constant_map_shows_nothing(value):
    assert (plot.normalize(np.full((3, 3), value, np.float32), signed=False).values == 0).all()


def test_values_that_are_not_finite_stay_out_of_the_scale():
    scaled = plot.normalize(np.array([1.0, -2.0, np.nan, np.inf]), percentile=100)
    assert scaled.high == 2
    np.testing.assert_array_equal(scaled.values, [0.5, -1, np.nan, np.nan])
    assert np.isnan(plot.normalize(np.full(4, np.nan)).values).all()


@pytest.mark.parametrize("percentile", [50, 101, -1])
def test_a_percentile_out_of_range_is_named(percentile):
    with pytest.raises(ValueError, match=f"percentile={percentile} must be"):
        plot.normalize(np.ones(3), percentile)


def test_channels_are_summed_with_their_signs_or_reduced_to_the_largest_magnitude():
    a = np.array([[[1.0, -3.0, 0.5]]])
    assert plot.reduce_channels(a) == -1.5
    assert plot.reduce_channels(a, "abs_max") == 3
    with pytest.raises(ValueError, match="channels='mean' must be one of 'sum', 'abs_max'"):
        plot.reduce_channels(a, "mean")


# Colours


def test_for_is_red_against_is_blue_and_zero_is_the_ground():
    out = rgb(np.array([-1.0, 0.0, 1.0]).reshape(1, 3, 1))
    np.testing.assert_allclose(out[0], [plot.colors(-1.0, True), (1, 1, 1), plot.colors(1.0, True)], atol=1e-6)
    against, _, for_it = out[0]
    assert against[2] > against[0] + 0.4 and for_it[0] > for_it[2] + 0.4


def test_unsigned_maps_take_the_sequential_colours():
    out = rgb(np.array([0.0, 1.0]).reshape(1, 2, 1))
    np.testing.assert_allclose(out[0], [(1, 1, 1), plot.colors(1.0, False)], atol=1e-6)
    shades = plot.colors(np.linspace(0, 1, 50), False) @ [0.299, 0.587, 0.114]
    assert (np.diff(shades) >= 0).all() and shades[-1] - shades[0] > 0.4


def test_opacity_is_alpha_times_the_value():
    image = np.full((1, 3, 3), 0.5, np.float32)
    ground = 0.2 + 0.8 * 0.5
    a = np.array([0.0, -0.5, 1.0]).reshape(1, 3, 1)
    out = plot.blend(image, a, percentile=100, alpha=0.6)
    for pixel, value in zip(out[0], a[0, :, 0]):
        opacity = 0.6 * abs(value)
        np.testing.assert_allclose(pixel, (1 - opacity) * ground + opacity * plot.colors(value, True), atol=1e-6)
    np.testing.assert_allclose(plot.blend(image, a, alpha=0.0), ground, atol=1e-6)
    with pytest.raises(ValueError, match="alpha=1.5"):
        plot.blend(image, a, alpha=1.5)


def test_what_is_not_finite_is_green_and_nothing_else_is():
    out = rgb(np.array([np.nan, 1.0, -1.0, np.inf]).reshape(2, 2, 1))
    green = (out == plot.NOT_FINITE).all(-1)
    np.testing.assert_array_equal(green, [[True, False], [False, True]])


def test_the_ground_is_the_luminance_of_the_image_whatever_its_range():
    image = np.array([[[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    out = plot.blend(image, np.zeros((1, 2, 1)))
    np.testing.assert_allclose(out[0, :, 0], [0.2, 0.2 + 0.8 * 0.587], atol=1e-6)
    np.testing.assert_allclose(plot.blend(image * 255, np.zeros((1, 2, 1))), out, atol=1e-6)


def test_outlines_follow_the_borders_of_segments():
    labels = np.zeros((4, 4), int)
    labels[:, 2:] = 1
    out = plot.outline(np.zeros((4, 4, 3)), labels, color=(1, 0, 0))
    expected = np.zeros((4, 4, 3))
    expected[:, 1] = (1, 0, 0)
    np.testing.assert_array_equal(out, expected)
    both = plot.blend(np.zeros((4, 4, 3)), np.zeros((4, 4, 1)), segments=labels)
    np.testing.assert_allclose(both[:, [0, 2, 3]], 0.2, atol=1e-6)
    np.testing.assert_allclose(both[:, 1], np.broadcast_to((1.0, 0.9, 0.2), (4, 3)))
    with pytest.raises(ValueError, match=r"segments must be of shape \(4, 4\), got \(2, 2\)"):
        plot.outline(np.zeros((4, 4, 3)), labels[:2, :2])


# Figures


def test_an_overlay_holds_the_blended_picture_and_its_colour_bar_the_raw_limits():
    image, a = np.full((8, 8, 3), 0.3, np.float32), np.linspace(-2, 1, 64).reshape(8, 8, 1)
    figure = plot.overlay(image, a, percentile=100)
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), plot.blend(image, a, percentile=100), atol=1e-6)
    np.testing.assert_allclose(figure.axes[1].get_ylim(), (-2, 2))


def test_a_grid_of_one_target_has_the_image_and_a_titled_panel_for_every_method():
    image = np.random.default_rng(0).random((6, 6, 3))
    maps = {f"method_{i}": np.full((1, 6, 6, 1), i - 1.0) for i in range(4)}
    figure = plot.explanations(image, maps, ["cat"], percentile=100)
    panels = figure.axes[:5]
    assert [axes.get_title() for axes in panels] == ["cat", *maps]
    np.testing.assert_allclose(panels[0].images[0].get_array(), image, atol=1e-6)
    np.testing.assert_allclose(panels[1].images[0].get_array(), plot.blend(image, maps["method_0"][0]), atol=1e-6)


def test_the_words_below_two_colour_bars_do_not_meet():
    x = np.ones((8, 8, 1), np.float32)
    figure = plot.explanations(x, {"gradient": x[None], "grad_cam": x[None]}, ["3"], columns=3)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    for axes in figure.axes[-2:]:
        words, bar = [text.get_window_extent(renderer) for text in axes.get_xticklabels()], axes.get_window_extent(renderer)
        assert len(words) in (2, 3) and min(word.x0 for word in words) >= bar.x0 - 1 and max(word.x1 for word in words) <= bar.x1 + 1


def test_a_grid_of_targets_has_one_row_each_and_every_map_its_own_scale():
    image = np.zeros((4, 4, 3))
    first = np.linspace(0, 1, 16).reshape(4, 4, 1)
    figure = plot.explanations(image, {"m": np.stack([first, -50 * first])}, ["cat", "dog"], percentile=100)
    panels = figure.axes[:4]
    assert [axes.get_title() for axes in panels] == ["cat", "m", "dog", ""]
    assert panels[1].images[0].get_array()[-1, -1, 0] > 0.8  # the same strength, in the colours of each
    np.testing.assert_allclose(panels[3].images[0].get_array(), plot.blend(image, -first, percentile=100), atol=1e-6)
    labels = [[text.get_text() for text in axes.get_xticklabels()] for axes in figure.axes[4:]]
    assert ["against", "0", "for the class"] in labels and ["least", "most important"] in labels
    with pytest.raises(ValueError, match=r"maps\['m'\] must hold a map for each of 1 targets, .* got shape \(2, 4, 4, 1\) for x \(4, 4, 3\)"):
        plot.explanations(image, {"m": np.zeros((2, 4, 4, 1))}, ["cat"])


def test_a_vector_is_drawn_as_bars_of_its_largest_entries_in_order():
    values = np.arange(40.0) * np.where(np.arange(40) % 2, 1, -1)
    bars = plot.overlay(None, values, names=[f"feature {i}" for i in range(40)]).axes[0]
    np.testing.assert_array_equal([bar.get_width() for bar in bars.patches], values[20:])
    assert bars.get_yticklabels()[0].get_text() == "feature 20"
    assert bars.patches[1].get_facecolor()[0] > bars.patches[0].get_facecolor()[0]


def test_panels_of_vectors_show_the_same_entries():
    x = np.arange(50.0)
    one, other = np.zeros(50), np.zeros(50)
    one[:15], other[45:] = 1, 1e-3
    figure = plot.explanations(x, {"a": one[None], "b": other[None]}, ["class 1"])
    labels = [[text.get_text() for text in axes.get_yticklabels()] for axes in figure.axes[:3]]
    assert labels[0] == labels[1] == labels[2] and len(labels[0]) == 20
    assert {"x[0]", "x[45]"} < set(labels[0])


def test_a_video_is_a_strip_of_frames_on_one_scale():
    video = np.random.default_rng(0).random((3, 4, 5, 3))
    a = np.zeros((3, 4, 5, 1))
    a[0], a[2] = 0.5, 1.0
    strip = plot.overlay(video, a, percentile=100, alpha=1.0).axes[0].images[0].get_array()
    assert strip.shape == (4, 15, 3)
    np.testing.assert_allclose(strip[:, 10:], np.broadcast_to(plot.colors(1.0, False), (4, 5, 3)), atol=1e-6)
    np.testing.assert_allclose(strip[:, 5:10], plot.blend(video[1], a[1]), atol=1e-6)
    assert np.abs(strip[:, :5] - strip[:, 10:]).min(-1).max() > 0.05


def test_a_saved_picture_shows_what_the_figure_holds(tmp_path):
    figure = plot.overlay(None, np.ones((4, 4, 1)) * np.nan)
    plot.save(figure, tmp_path / "nan.png")
    saved = matplotlib.image.imread(tmp_path / "nan.png")[..., :3]
    assert (np.abs(saved - np.array(plot.NOT_FINITE)).max(-1) < 0.01).mean() > 0.3
    assert (pixels(figure) == plot.NOT_FINITE).all(-1).any()


# Files


def test_a_notebook_shows_a_figure_as_it_is_saved(tmp_path):
    image = np.random.default_rng(0).uniform(size=(6, 6, 3))
    plot.save(plot.overlay(image, image[..., :1]), tmp_path / "saved.png")
    shown = io.BytesIO(plot.overlay(image, image[..., :1])._repr_png_())
    np.testing.assert_array_equal(matplotlib.image.imread(shown), matplotlib.image.imread(tmp_path / "saved.png"))


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "result.npz"
    save_arrays(path, a=np.arange(3))
    for error in (KeyboardInterrupt, RuntimeError):
        with pytest.raises(error), atomic(path) as part:
            part.write_bytes(b"half")
            raise error
    assert [p.name for p in tmp_path.iterdir()] == ["result.npz"]
    np.testing.assert_array_equal(np.load(path)["a"], [0, 1, 2])
