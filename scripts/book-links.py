"""Checks the links between the pages of a book: files and anchors. Usage: book-links.py DIR"""

import html
import pathlib
import re
import sys

root = pathlib.Path(sys.argv[1]).resolve()
pages = {page: page.read_text() for page in root.rglob("*.html") if page.name not in ("404.html", "print.html", "toc.html")}
ids = {page: set(re.findall(r'\bid="([^"]+)"', text)) for page, text in pages.items()}
checked, broken = 0, []
for page, text in pages.items():
    for link in map(html.unescape, re.findall(r'(?:href|src)="([^"]+)"', text)):
        if re.match(r"[a-z]+:|//", link):
            continue
        checked += 1
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target in ids and anchor not in ids[target]):
            broken.append(f"{page.relative_to(root)} links to {link}, which does not exist")
print("\n".join(broken) or f"{checked} links resolve")
sys.exit(bool(broken) or checked < 100)
