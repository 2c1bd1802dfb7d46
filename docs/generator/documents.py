"""Documents of the repository that are also pages of the site, with their links fitted to it."""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path

from docs.generator.markdown import GeneratedPage

# document in the repository -> page of the site
DOCUMENTS = {
    "CHANGELOG.md": "changelog.md",
    "CODE_OF_CONDUCT.md": "code-of-conduct.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "docker/README.md": "deployment/server.md",
    "docker/kubernetes/README.md": "deployment/kubernetes.md",
    "bloodcell/shipped/README.md": "reference/models.md",
}
_LINK = re.compile(r"\[([^\[\]]*)\]\(([^()\s]+)\)")


def document_pages(root: Path) -> list[GeneratedPage]:
    """Returns the page of each document.

    A link to a page of the site stays a link; one to another file of the repository becomes that file's path.
    """
    return [GeneratedPage(page, _fit_links((root / path).read_text(), path)) for path, page in DOCUMENTS.items()]


def _fit_links(text: str, document: str) -> str:
    def fit(link: re.Match[str]) -> str:
        shown, target = link.groups()
        if target.startswith("#") or ":" in target:
            return link.group()
        path, _, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(document), path))
        page = DOCUMENTS.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        if page is None:
            return f"`{path}`" if shown.strip("`") == path else f"{shown} (`{path}`)"
        relative = os.path.relpath(page, posixpath.dirname(DOCUMENTS[document]) or ".")
        return f"[{shown}]({relative}{'#' if anchor else ''}{anchor})"

    return _LINK.sub(fit, text)
