"""Pictures of series and of vectors, and texts that are drawn as they are."""

import matplotlib
import numpy as np
import pytest
from matplotlib.text import Text

from jxai import plot
from jxai.files import printable

SERIES = np.sin(np.arange(24)[:, None] / np.arange(1.0, 11))


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


@pytest.mark.parametrize("channels", [1, 3, 10])
def test_a_series_has_a_curve_for_each_channel_over_its_map(tmp_path, channels):
    x, a = SERIES[:, :channels], np.zeros((1, 24, channels))
    a[0, 5, -1], a[0, 9, 0] = 2, -1
    figure = plot.explanations(x, {"gradient": a}, ["up"], signed=True)
    plot.save(figure, tmp_path / "series.png")
    example, shown = figure.axes[:2]
    rows = min(channels, 8)
    assert len(example.lines) == len(shown.lines) == rows and not example.images
    curve = shown.lines[-1].get_ydata()  # of the last channel, which has the largest value: on its own scale, upside down
    np.testing.assert_allclose((curve - curve.min()) / np.ptp(curve), (x[:, -1].max() - x[:, -1]) / np.ptp(x[:, -1]), atol=1e-6)
    colours = np.asarray(shown.images[0].get_array())
    assert colours.shape == (rows, 24, 3)
    red, blue = colours[-1, 5], colours[0, 9]
    assert red[0] > red[2] and blue[2] > blue[0] and (np.delete(colours.reshape(-1, 3), [9, (rows - 1) * 24 + 5], 0) == 1).all()
    assert ("8 of 10 channels shown" in texts(figure)) == (channels == 10)


def test_a_map_over_positions_is_behind_all_channels():
    figure = plot.overlay(SERIES[:, :3], np.eye(24)[:, :1])
    colours = np.asarray(figure.axes[0].images[0].get_array())
    assert colours.shape == (3, 24, 3) and (colours[:, 0] == colours[0, 0]).all() and (colours[:, 1:] == 1).all()


@pytest.mark.parametrize(("features", "said"), [(30, "20 of 30 shown"), (20, None)])
def test_bars_say_how_many_are_shown(features, said):
    found = [text for text in texts(plot.explanations(np.arange(features), {"a": np.ones((1, features))})) if "shown" in text]
    assert found == [said] * 2 if said else not found
    assert f"12 of {features} shown" in texts(plot.counterfactuals(np.ones((1, features)), np.zeros((1, 1, features))))


@pytest.mark.parametrize("name", ["price_$5_$6", "$\\frac{", "100% _a^{", "caf\udce9 $x$", "new\nline $$", "\ud800"])
def test_any_name_can_be_drawn(tmp_path, name):
    image = np.ones((4, 4, 3))
    figures = [
        plot.explanations(image, {name: np.ones((1, 4, 4, 1))}, [name], title=name),
        plot.overlay(np.arange(3), np.arange(3), title=name, names=[name] * 3),
        plot.heatmap(np.eye(2), [name, "b"], ["a", name]),
        plot.critical_difference({name: 1, "b": 2}, 0.5, name),
        plot.counterfactuals(image[None], image[None, None], titles=[[name]], originals=[name]),
        plot.removals(image, image[None], np.ones((2, 1)), [name], titles=[name, name]),
        plot.confidence({name: np.linspace(1, 0, 5)}, title=name, ylabel=name),
    ]
    with matplotlib.rc_context({"font.family": "sans-serif"}):
        for number, figure in enumerate(figures):
            plot.save(figure, tmp_path / f"{number}.png", dpi=30)
    assert "$" not in name or any("$" in text for text in texts(figures[0]))


@pytest.mark.parametrize(("name", "shown"), [("café 日本.png", "café 日本.png"), ("caf\udce9", r"caf\xe9"), ("a\nb\t", r"a\nb\t"), ("\ud800", r"\ud800")])
def test_names_are_printable(name, shown):
    assert printable(name) == shown and printable(name).encode()
