"""What a person reads on a page of the report."""

import re
from html.parser import HTMLParser
from pathlib import Path


class Page(HTMLParser):
    """The page's words by section id, its links and its tags."""

    def __init__(self, path: str):
        super().__init__()
        self.at, self.words, self.links, self.open, self.hidden = "head", {"head": ""}, [], [], False
        self.source = Path(path).read_text()
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "section":
            self.at = attrs["id"]
            self.words[self.at] = ""
        self.hidden = tag == "style"
        self.links += [v for k, v in attrs.items() if k in ("src", "href", "data", "action")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.hidden = False

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_data(self, data):
        if not self.hidden:
            self.words[self.at] += f" {data.strip()} "

    def __getitem__(self, section: str) -> str:
        return re.sub(r" ([,;:.)])|([(]) ", r"\1\2", " ".join(self.words[section].split()))
