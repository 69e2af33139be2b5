"""The README is short, its code runs, and what it names exists."""

import re
from pathlib import Path

import jax
import numpy as np

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_readme_fits_on_a_screen_or_two():
    assert len(README.splitlines()) <= 150


def test_the_quick_start_explains_an_nnx_a_linen_and_a_plain_model():
    (start,) = BLOCKS
    assert sum(bool(line) for line in start.splitlines()) <= 17
    names: dict = {}
    exec(start, names)
    assert names["cam"].shape == (32, 32, 1) and names["maps"].shape == (4, 32, 32, 1)
    x, ig = names["images"][0], names["ig"]
    logits = np.asarray(jax.jit(jax.vmap(names["f"]))(np.stack([x, np.zeros_like(x)])))
    logit, margin = logits[:, 3], logits[:, 3] - logits[:, 5]
    assert np.allclose(np.asarray(ig).sum(), logit[0] - logit[1], atol=1e-3)
    assert np.allclose(np.asarray(names["why_not_5"]).sum(), margin[0] - margin[1], atol=1e-3)


def test_every_method_is_listed():
    from jxai import attribution, counterfactual, metrics

    assert set(attribution.__all__) <= set(re.findall(r"`(\w+)`", README))
    assert f"{len(metrics.__all__)} of them" in README and f"{len(counterfactual.METHODS)} methods" in README


def test_every_link_of_the_readme_leads_somewhere():
    links = [link for link in re.findall(r"\]\(([^)#]+)", README) if "://" not in link]
    assert len(links) > 5 and not [link for link in links if not (ROOT / link).exists()]
