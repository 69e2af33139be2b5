"""The built manual: made without a warning, and every link inside it leads to a page and to a place on it."""

from __future__ import annotations

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import manual
import pytest

pytestmark = pytest.mark.slow


class Links(HTMLParser):
    """What a page links to and loads, and the places on it that can be linked to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.to: list[str] = []
        self.loads: list[str] = []
        self.places: set[str] = set()
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.places |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.to.append(given["href"])
        if tag in ("script", "img", "source") and given.get("src"):
            self.loads.append(given["src"])
        if tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload") and given.get("href"):
            self.loads.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site; pages that were executed before are taken from build/docs-cache."""
    pytest.importorskip("sphinx", reason="the extra docs is not installed")
    pytest.importorskip("myst_nb", reason="the extra docs is not installed")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", out / "doctrees", manual.DOCS, out / "html"]
    done = subprocess.run(command, cwd=manual.ROOT, env={**os.environ, "JAX_PLATFORMS": "cpu"}, capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if "IPKernelApp" not in line]
    assert done.returncode == 0, "\n".join(said[-40:])
    return out / "html"


def test_links_inside_the_site_lead_to_a_page_and_a_place_on_it(site):
    pages = {page: Links(page) for page in site.rglob("*.html") if "_static" not in page.parts}  # but for templates of the theme
    assert len(pages) > 60
    broken = []
    for page, links in pages.items():
        for link in [*links.to, *links.loads]:
            url = urlsplit(link)
            if url.scheme or url.netloc:
                continue
            at = (page.parent / unquote(url.path)).resolve() if url.path else page
            at = at / "index.html" if at.is_dir() else at
            placed = not url.fragment or at.suffix != ".html" or at not in pages or unquote(url.fragment) in pages[at].places
            if not at.exists() or not placed:
                broken.append(f"{page.relative_to(site)}: {link}")
    assert not broken


def test_nothing_is_loaded_from_elsewhere(site):
    outside = [(page.name, load) for page in site.rglob("*.html") for load in Links(page).loads if urlsplit(load).netloc]
    assert not outside


def test_every_public_name_has_a_place(site):
    sys.path.insert(0, str(manual.DOCS / "_extensions"))
    import reference

    places = set().union(*(Links(page).places for page in (site / "reference").glob("*.html")))
    assert not {name for name in reference.names().values() if name not in places}


def test_pictures_of_executed_pages_are_on_them(site):
    for name in ("tutorials/photograph", "gallery/photographs", "gallery/small"):
        pictures = [load for load in Links(site / f"{name}.html").loads if "_images" in load]
        assert len(pictures) >= 3, name
