"""The pages of `--html` in a real browser: quiet, never wider than a phone, with pictures that are there and keys that go on."""

import chromium
import numpy as np
import pytest
from PIL import Image

from jxai.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_compilation")]

OWN = """
import jax, jax.numpy as jnp, numpy as np
W = np.random.default_rng(0).normal(size=(40, 40, 3, 4)).astype(np.float32) / 40
def make():
    class Bundle:
        model = staticmethod(jax.tree_util.Partial(lambda w, x: jnp.einsum("hwc,hwck->k", x, w), jnp.asarray(W))); class_names = ["a long name of a class, with synonyms", "b", "c", "d"]; input_shape = (40, 40, 3)
    return Bundle()
def layered():
    bundle = make()
    bundle.model = jax.tree_util.Partial(lambda w, x: jax.nn.relu(x @ w).mean((0, 1)) @ w[:, :4].T @ jnp.eye(3, 4), jnp.asarray(40 * W[0, 0, :, :4]))
    return bundle
"""
NAME = "a_photograph_with_a_name_that_is_too_long_for_any_phone_there_is_0123456789.png"
COMMANDS = {
    "explain/explanation.html": (["explain", "images", "--methods", "gradient,occlusion,lime", "--target", "0,b"], 4),
    "one/explanation.html": (["explain", f"images/{NAME}", "--methods", "gradient"], 2),
    "certificate.html": (["certify", f"images/{NAME}", "--radius", "0.2", "--steps", "5"], 3),
    "certify/certification.html": (["certify", "images", "--radius", "0.001", "--target", "predicted", "--steps", "5"], 0),
    "counterfactual/counterfactual.html": (["counterfactual", f"images/{NAME}", "--method", "wachter", "--target", "all"], 3),
    "counterfactuals/counterfactuals.html": (["counterfactual", "images", "--method", "wachter"], 3),
    "concepts/concepts.html": (["concepts", "images", "--of", "predicted", "--top", "2", "--references", "3", "--lrp.composite", "epsilon"], 5),
    "suffice/sufficient.html": (["suffice", f"images/{NAME}", "--threshold", "0.3"], 3),
    "disambiguate/disambiguation.html": (["disambiguate", f"images/{NAME}", "--top", "3", "--disambiguate.score", "probability"], 3),
}
MEASURED = """
return [[...document.querySelectorAll("img")].map(image => image.complete && image.naturalWidth > 0), document.querySelectorAll(".pictures figure").length,
        [...document.querySelectorAll(".pictures img")].filter(image => image.alt || image.classList.contains("base")).length === document.querySelectorAll(".pictures img").length]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    chromium.needed()
    here = tmp_path_factory.mktemp("pages")
    (here / "own_shown.py").write_text(OWN)
    (here / "images").mkdir()
    for n, name in enumerate((NAME, "b.png", "c.png")):
        Image.fromarray(np.random.default_rng(n).integers(0, 255, (40, 40, 3), np.uint8)).save(here / "images" / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        for page, (command, _) in COMMANDS.items():
            out = page.replace(".html", ".npz") if page == "certificate.html" else page.split("/")[0]
            model = "own_shown:layered" if command[0] == "concepts" else "own_shown:make"
            assert main([*command, "--model", model, "--html", "--out", out]) == 0
    return here


@pytest.mark.parametrize("page", COMMANDS)
def test_every_page_is_quiet_and_fits(made, page):
    for width in (1200, 340):
        with chromium.opened(made / page, width) as driver:
            loaded, figures, told = driver.execute_script(MEASURED)
            assert all(loaded) and told and not chromium.overflows(driver)
            assert figures == COMMANDS[page][1] or (page.startswith("disambiguate") and figures >= 2)
            chromium.quiet(driver)


def test_keys_go_through_images_and_classes(made):
    from selenium.webdriver.common.keys import Keys

    with chromium.opened(made / "explain" / "explanation.html") as driver:
        body, seen = driver.find_element("tag name", "body"), []
        for _ in range(6):
            seen.append((driver.find_element("css selector", ".stage h4").text, driver.find_element("css selector", ".chips li").text))
            body.send_keys(Keys.ARROW_RIGHT)
        assert len(set(seen)) == 6 and driver.find_element("css selector", ".stage h4").text == seen[0][0]
        assert sorted(text.partition(" ")[2].split(",")[0] for _, text in seen) == ["a long name of a class"] * 3 + ["b"] * 3
