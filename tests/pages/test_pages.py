"""Pages: whatever is put into them is escaped, small pictures are exact, and charts show the numbers that they are given."""

import base64
import io

import numpy as np
import pytest
from page_parser import self_contained
from PIL import Image

from jxai import pages
from jxai.pages.charts import ticks
from jxai.pages.parts import Charts, number
from jxai.pages.pictures import where

NASTY = "<img src=x onerror=alert(1)> </script><b> $x_1$ \"quoted' {{ 7*7 }} & \udcff\n.png"
SHOWN = NASTY.replace("\udcff", "\\xff").replace("\n", "\\n")


def pixels(uri):
    head, _, data = uri.partition(",")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))), head


def test_names_are_escaped_wherever_they_stand():
    rng = np.random.default_rng(0)
    line = {NASTY: (np.linspace(0, 1, 5), rng.random((3, 5))), "b": (np.linspace(0, 1, 5), rng.random((3, 5)))}
    case = pages.Case(
        NASTY,
        pages.picture(rng.random((4, 4, 1))),
        NASTY,
        [pages.layer(NASTY, rng.random((4, 4, 1)), (4, 4, 1))],
        [(NASTY, NASTY)],
        NASTY,
        scores=[[0.5]],
        error=NASTY,
    )
    parts = [
        pages.Text(NASTY, [NASTY], [NASTY], code=NASTY),
        pages.Facts([(NASTY, NASTY)], NASTY),
        pages.Table(NASTY, [pages.Column(NASTY, NASTY, 1)], [pages.Row(NASTY, [pages.Cell(NASTY, NASTY, [NASTY])], 0)], NASTY, NASTY),
        Charts([pages.curves(line, NASTY, label=NASTY), pages.critical_difference({NASTY: 1.0, "b": 2.0}, 0.5, NASTY)], NASTY, NASTY),
        pages.Browser([case, case], NASTY, NASTY, NASTY, [pages.Column(NASTY)], NASTY),
    ]
    page = self_contained(pages.render(NASTY, [pages.Section(NASTY, parts, NASTY), pages.Section("b", [])], lead=NASTY))
    assert page.count("script") == 2 and page.count("img") == 0 and page.count("b") == 0
    (browser,) = page.browsers()
    assert browser["c"][0]["n"] == browser["c"][0]["l"][0]["n"] == browser["c"][0]["e"] == browser["m"][0]["n"] == SHOWN
    assert all(tag.get("onerror") is None for _, tag in page.tags)
    assert sum(SHOWN in text for _, text in page.texts) > 8


@pytest.mark.parametrize("signed", [True, False])
def test_a_small_map_travels_exactly(signed):
    a = np.linspace(-1 if signed else 0, 1, 64, dtype=np.float32).reshape(8, 8, 1)
    layer = pages.layer("mine", a, (8, 8, 1), signed=signed)
    grey, head = pixels(layer.source)
    scale = np.percentile(np.abs(a), 99)
    low, high = np.percentile(a, [1, 99])
    expected = 128 + 127 * np.clip(a / scale, -1, 1) if signed else 255 * np.clip((a - low) / (high - low), 0, 1)
    assert head == "data:image/png;base64" and layer.kind == ("signed" if signed else "unsigned") and np.array_equal(grey, np.rint(expected[..., 0]))


def test_large_maps_are_small_webp_near_what_they_show():
    y, x = np.mgrid[:224, :224] / 224
    a = np.exp(-30 * ((x - 0.2) ** 2 + (y - 0.8) ** 2))[..., None]
    layer = pages.layer("bump", a, (224, 224, 3), signed=False, width=112)
    grey, head = pixels(layer.source)
    assert head == "data:image/webp;base64" and len(layer.source) < 1500 and grey.shape[:2] == (112, 112)
    shown = a.reshape(112, 2, 112, 2).mean((1, 3))
    assert np.abs(grey[..., 0] / 255 - np.clip(shown / np.percentile(a, 99), 0, 1)).mean() < 0.02
    assert layer.alt.startswith("most of it lower left, half of it on ")


def test_what_is_not_finite_is_green_and_every_rank_has_a_layer():
    a = np.ones((4, 4, 1), np.float32)
    a[0, 0] = np.nan
    layer = pages.layer("broken", a, (4, 4, 1))
    assert layer.kind == "plain" and pixels(layer.source)[0][0, 0].tolist() == [0, 255, 0, 255]
    video = np.random.default_rng(0).random((20, 6, 6, 3))
    assert pixels(pages.picture(video))[0].shape == (6, 48, 3) and pixels(pages.layer("v", video, video.shape).source)[0].shape == (6, 48)
    series = np.arange(14.0).reshape(7, 2)
    assert pixels(pages.picture(series))[0].shape == (2, 7) and pixels(pages.layer("s", series, (7, 2), signed=False).source)[0].shape == (2, 7)
    vector = np.asarray([0.5, -2.0, np.nan, 1.0])
    assert pages.picture(vector) == "" and pages.layer("v", vector, (4,), names="abcd").bars == (("a", 0.5), ("b", -2.0), ("d", 1.0))
    assert pages.layer("v", np.full(4, np.nan), (4,)).bars == () and pages.layer("all", np.full((4, 4, 1), np.nan), (4, 4, 1)).kind == "plain"


def test_words_for_a_map():
    a = np.zeros((9, 9))
    a[0, 0] = a[8, 8] = 1
    a[0, 8] = -3
    assert where(a) == "most of it upper right, half of it on 1% of the positions"
    assert where(np.zeros((3, 3))) == "nothing anywhere" and where(np.full((1, 1), 2.0)).startswith("most of it upper left")


def test_ticks_are_round_and_reach_over_the_range():
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1] and ticks(-4.9, 11) == [-5, 0, 5, 10, 15] and ticks(0.011, 0.013)[0] <= 0.011
    assert ticks(2, 2)[0] < 2 < ticks(2, 2)[-1]
    for low, high in np.random.default_rng(0).normal(size=(50, 2)) * 10.0 ** np.arange(-25, 25)[:, None]:
        low, high = sorted((low, high))
        found = ticks(low, high)
        assert found[0] <= low + 1e-9 * (high - low) and found[-1] >= high - 1e-9 * (high - low) and 3 <= len(found) <= 8


def test_a_chart_draws_means_where_they_are():
    x = np.asarray([0.0, 0.5, 1.0])
    chart = pages.curves({"a": (x, np.asarray([[0.0, 2, 4], [0, 2, 4]])), "b": (x, np.asarray([[4.0, 2, 0]]))}, "fall", threshold=2)
    lines = [[tuple(map(float, p.split(","))) for p in part.split('"')[0].split()] for part in chart.svg.split('<polyline points="')[1:]]
    assert lines[0][0] == (46, 242) and lines[0][2] == (450, 10) and lines[0][1] == lines[1][1] == (248, 126) and "<polygon" not in chart.svg
    assert "mean height a 2, b 2" in chart.alt and 'class="threshold" x1="46" x2="450" y1="126.0"' in chart.svg


def test_numbers_for_the_eye():
    assert [number(v) for v in (-0.01234, 1e-9, np.nan, None, np.inf, -np.inf, 0.0)] == ["−0.0123", "1e−09", "–", "–", "∞", "−∞", "0"]


def test_equal_parts_make_equal_bytes_and_a_page_of_64_digits_is_small(tmp_path):
    def text():
        rng = np.random.default_rng(1)
        cases = [
            pages.Case(
                f"{n}.png",
                pages.picture(rng.random((8, 8, 1))),
                "",
                [pages.layer(f"method_{m}", rng.normal(size=(8, 8, 1)), (8, 8, 1)) for m in range(6)],
                scores=rng.random((6, 6)),
            )
            for n in range(64)
        ]
        return pages.render("digits", [pages.Section("", [pages.Browser(cases, metrics=[pages.Column(f"metric_{m}") for m in range(6)])])])

    pages.save(tmp_path / "a.html", text())
    pages.save(tmp_path / "b.html", text())
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes() and (tmp_path / "a.html").stat().st_size < 300_000
