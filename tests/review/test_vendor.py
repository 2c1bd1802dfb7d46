"""The JavaScript packages that are shipped are those that VENDOR.json names, and load without a build step."""

from __future__ import annotations

import hashlib
import json
import re

import pytest

from tests.review.vendor import PACKAGES, VENDOR, bare_imports, imported_modules

LISTED = json.loads((VENDOR / "VENDOR.json").read_text())


def test_each_file_is_listed_with_its_digest() -> None:
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.glob("*.js")}
    assert {entry["file"]: entry["sha256"] for entry in LISTED} == digests


def test_each_package_has_a_version_an_integrity_and_its_licence() -> None:
    assert [(entry["name"], entry["version"]) for entry in LISTED] == [
        (package.name, package.version) for package in PACKAGES for _ in package.files
    ]
    for entry in LISTED:
        assert entry["integrity"].startswith("sha512-")
        assert entry["license"] in {"MIT", "Apache-2.0"}
        assert (VENDOR / entry["license_file"]).stat().st_size > 500
    licences = {entry["license_file"] for entry in LISTED}
    assert {path.name for path in VENDOR.glob("LICENSE*")} == licences


@pytest.mark.parametrize("path", sorted(VENDOR.parent.rglob("*.js")), ids=lambda path: path.name)
def test_no_module_imports_a_bare_name(path: object) -> None:
    assert bare_imports(path.read_text()) == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", ["slide", "blind", "adjudicate"])
def test_a_page_fetches_all_modules_at_once(page: str) -> None:
    static = VENDOR.parent
    template = (static.parent / f"templates/{page}.html.j2").read_text()
    listed = re.findall(r'"([\w./-]+\.js)"', template)
    assert listed == [path.relative_to(static).as_posix() for path in imported_modules(static / f"{page}.js")]


def test_no_module_is_left_over() -> None:
    static = VENDOR.parent
    pages = ("slide", "blind", "adjudicate", "training_queue")
    used = {path for page in pages for path in imported_modules(static / f"{page}.js")}
    used |= {static / f"{name}.js" for name in (*pages, "page", "theme", "loading")}
    assert set(static.rglob("*.js")) == used
