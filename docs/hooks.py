"""What `mkdocs` does for the site: it makes the reference pages, takes in those outside of docs/, links, and draws.

A page is written for readers of the repository; a link to a file that is no page of the site stays as its text.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

import mermaidx
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docs.reference import PAGES

REPOSITORY = Path(__file__).resolve().parents[1]

TAKEN_IN = {
    "README.md": "readme.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "docker/README.md": "docker.md",
}
"""Pages outside of docs/, by their place in the repository, and where they are in the site."""

DIAGRAM = re.compile(r"^```mermaid\n(.*?)^```$", re.DOTALL | re.MULTILINE)

LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made, and those that lie elsewhere."""
    for place, make in PAGES.items():
        files.append(File.generated(config, place, content=make()))
    for source, place in TAKEN_IN.items():
        files.append(File.generated(config, place, content=(REPOSITORY / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: Any) -> str:
    """Have the links of the repository lead to the site's pages, and diagrams be pictures."""
    here = page.file.src_uri
    return DIAGRAM.sub(_drawn, LINK.sub(lambda found: _relinked(found, here, files), markdown))


def source_of(place: str) -> str:
    """Where a page of the site is in the repository."""
    return next((source for source, taken in TAKEN_IN.items() if taken == place), f"docs/{place}")


def place_of(source: str) -> str:
    """Where a file of the repository is in the site, if it is there."""
    return TAKEN_IN.get(source, source.removeprefix("docs/"))


def _relinked(found: "re.Match[str]", here: str, files: Files) -> str:
    image, text, target, anchor = found.groups()
    if ":" in target:
        return found[0]
    source = posixpath.normpath(posixpath.join(posixpath.dirname(source_of(here)), target))
    place = place_of(source) if source.startswith("docs/") or source in TAKEN_IN else ""
    if place and files.get_file_from_path(place):
        relative = posixpath.relpath(place, posixpath.dirname(here) or ".")
        return f"{image}[{text}]({relative}{anchor or ''})"
    if (REPOSITORY / source).exists():
        return str(text)
    return found[0]  # mkdocs says that it leads nowhere


def _drawn(found: "re.Match[str]") -> str:
    svg = " ".join(mermaidx.render(found[1]).svg().split())  # Markdown takes an empty line for the end of it
    return f'<figure class="picture">{svg}</figure>'
