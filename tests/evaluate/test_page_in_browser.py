"""Reports in a real browser: they sort, filter, fade and go on by the keyboard, on a desk and on a phone, and never ask the network."""

import re
import shlex
from pathlib import Path

import chromium
import numpy as np
import pytest
import runs

from jxai import evaluate, pages
from jxai.cli import main
from jxai.naming import proper

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_compilation")]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def report(whole, tmp_path_factory):
    chromium.needed()
    out = tmp_path_factory.mktemp("report")
    evaluate.report([whole], out)
    return out / "report.html"


def texts(driver, what):
    return driver.execute_script("return [...document.querySelectorAll(arguments[0])].map(found => found.textContent)", what)


def places(driver):
    """The examples that are shown, in order."""
    return [int(name.split()[-1]) for name in driver.execute_script("return [...document.querySelectorAll('.thumbs button')].map(b => b.ariaLabel)")]


def put(driver, name, value):
    """Sets an input of the filters as a person does."""
    script = """const on = document.querySelector(`[name=${arguments[0]}]`);
    if (on.type === "checkbox") on.click(); else { on.value = arguments[1]; on.dispatchEvent(new Event("input", {bubbles: true})); }"""
    driver.execute_script(script, name, value)


def test_tables_sort(report, whole):
    with chromium.opened(report) as driver:
        heads = driver.find_element("css selector", "table.sortable").find_elements("css selector", "thead button")
        means = {proper(m): whole.table()[f"score/{m}/sparseness"].astype(float).mean() for m in runs.METHODS}
        best_first = sorted(means.values(), reverse=True)
        place = next(n for n, head in enumerate(heads) if head.text.startswith("Sparseness"))
        for expected, way in ((best_first, "descending"), (best_first[::-1], "ascending")):
            heads[place].click()
            assert [means[m] for m in texts(driver, "#s1 table.sortable tbody th")] == expected
            assert driver.execute_script("return [...document.querySelectorAll('th')].map(th => th.ariaSort).filter(Boolean)") == [way]
        heads[0].click()
        assert texts(driver, "#s1 table.sortable tbody th") == sorted(map(proper, runs.METHODS))
        chromium.quiet(driver)


def test_examples_are_filtered(report, whole):
    table = whole.table()
    with chromium.opened(report) as driver:
        assert places(driver) == list(range(21))
        put(driver, "group", "3")
        assert places(driver) == np.flatnonzero(table["label"] == 3).tolist() and texts(driver, ".count") == ["2 of 21 examples"]
        put(driver, "group", "")
        put(driver, "wrong", True)
        assert places(driver) == np.flatnonzero(table["label"] != table["predicted"]).tolist() != list(range(21))
        put(driver, "wrong", False)
        apart = np.asarray([pages.disagreement([whole.maps(m)[i] for m in runs.METHODS]) for i in range(21)])
        middle = float(np.sort(apart)[10:12].mean())
        put(driver, "apart", middle)
        assert places(driver) == np.flatnonzero(apart >= middle).tolist()
        put(driver, "order", "apart")
        assert places(driver) == [i for i in np.argsort(-np.round(apart, 4), kind="stable") if apart[i] >= middle]
        put(driver, "group", str(table["label"][int(np.argmin(apart))]))
        put(driver, "apart", float(apart.max()))
        assert texts(driver, ".stage h4")[0].startswith("no example is left") or len(places(driver)) == 1
        chromium.quiet(driver)


def test_the_slider_fades_the_maps_and_the_keyboard_goes_on(report):
    from selenium.webdriver.common.keys import Keys

    with chromium.opened(report) as driver:
        faded = "return [...document.querySelectorAll('.map')].map(map => getComputedStyle(map).opacity)"
        assert driver.execute_script(faded) == ["0.85"] * 5
        slider = driver.find_element("name", "opacity")
        slider.send_keys(Keys.HOME)
        assert driver.execute_script(faded) == ["0"] * 5 and texts(driver, ".opacity output") == ["0 %"]
        slider.send_keys(Keys.ARROW_RIGHT)
        assert driver.execute_script(faded) == ["0.01"] * 5 and texts(driver, ".stage h4") == ["1 of 21: example 0"]
        stage = driver.find_element("css selector", ".stage")
        for keys, expected in (([Keys.ARROW_RIGHT] * 2, 2), ([Keys.ARROW_LEFT] * 3, 20), ([Keys.ARROW_RIGHT], 0)):
            for key in keys:
                stage.send_keys(key)
            assert texts(driver, ".stage h4") == [f"{expected + 1} of 21: example {expected}"]
        assert driver.execute_script(faded) == ["0.01"] * 5
        driver.find_elements("css selector", ".thumbs button")[7].click()
        assert texts(driver, ".stage h4") == ["8 of 21: example 7"]
        shown = driver.execute_script("return [...document.querySelectorAll('.pictures img')].map(i => [i.className, i.alt, i.naturalWidth])")
        assert len(shown) == 11 and all(width == 8 for *_, width in shown)
        assert [alt.split(":")[0] for name, alt, _ in shown if name.startswith("map")] == list(map(proper, runs.METHODS))
        chromium.quiet(driver)


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_has_room_and_the_dark_is_dark(report, dark):
    with chromium.opened(report, 360, 740, dark) as driver:
        assert not chromium.overflows(driver)
        background = "return getComputedStyle(document.body).backgroundColor"
        colour = sum(map(int, re.findall(r"\d+", driver.execute_script(background))[:3]))
        assert (colour < 150) == dark
        theme = driver.find_element("id", "theme")
        seen = []
        for _ in range(3):
            theme.click()
            seen.append((theme.text.split()[-1], sum(map(int, re.findall(r"\d+", driver.execute_script(background))[:3])) < 150))
        assert seen == [("light", False), ("dark", True), ("auto", dark)]
        chromium.quiet(driver)


def test_the_page_of_the_demo(tmp_path, monkeypatch):
    chromium.needed()
    recipe = (ROOT / "Makefile").read_text().split("\ndemo:")[1].split("\n\n")[0].replace("\\\n", " ")
    commands = [shlex.split(line.partition("$(BIN)/jxai ")[2]) for line in recipe.splitlines() if "jxai evaluate" in line or "jxai report" in line]
    monkeypatch.chdir(tmp_path)
    assert [main(command) for command in commands] == [0, 0]
    page = tmp_path / "build" / "demo" / "run" / "report" / "report.html"
    assert page.stat().st_size < 300_000
    with chromium.opened(page) as driver:
        assert texts(driver, ".count") == ["64 of 64 examples"] and len(texts(driver, "#s1 table.sortable tbody tr")) == 6
        assert len(texts(driver, ".chart svg")) == 8 and len(texts(driver, ".pictures figure")) == 7 and not chromium.overflows(driver)
        chromium.quiet(driver)
