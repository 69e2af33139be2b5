"""Reads a page as a browser's parser would: its tags, what they point at, its tables and what its script reads."""

from __future__ import annotations

import json
from html.parser import HTMLParser


class Parsed(HTMLParser):
    VOID = frozenset(("meta", "link", "img", "input", "br", "wbr", "line", "circle", "polyline", "polygon"))

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.targets, self.texts, self.cells = [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        self.targets += [attributes[name] for name in ("src", "href", "action", "data", "poster", "srcset") if name in attributes]
        if tag == "td":
            self.cells.append(attributes.get("data-v"))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in ("p", "li") or self.open[-1] == tag:
            assert self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def count(self, tag):
        return sum(name == tag for name, _ in self.tags)

    def browsers(self):
        """What the script reads, of each browser of examples."""
        return [json.loads(text) for tag, text in self.texts if tag == "script" and text.startswith('{"')]


def self_contained(text):
    """The parsed page, whose every reference is within it."""
    page = Parsed(text)
    assert all(target.startswith(("data:", "#")) for target in page.targets), [t[:60] for t in page.targets if not t.startswith(("data:", "#"))]
    policy = next(tag["content"] for name, tag in page.tags if name == "meta" and tag.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;")
    styles = " ".join(content for tag, content in page.texts if tag == "style")
    assert "@import" not in styles and all(part.startswith("#") for part in styles.split("url(")[1:])
    scripts = " ".join(content for tag, content in page.texts if tag == "script" and not content.startswith('{"'))
    assert not any(word in scripts for word in ("fetch(", "XMLHttpRequest", "import(", "WebSocket", "http://", "https://", "sendBeacon"))
    return page
