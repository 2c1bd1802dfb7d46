"""The scripts and styles of the desk, under an address with their digest: browsers may keep them for good."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_FOLDER: Final = Path(__file__).with_name("static")
_KINDS: Final = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


class StaticFiles:
    """All of them, read once; a file that is not there at the start does not exist."""

    def __init__(self) -> None:
        paths = sorted(path for path in _FOLDER.rglob("*") if path.suffix in _KINDS)
        self._files: Mapping[str, bytes] = MappingProxyType(
            {path.relative_to(_FOLDER).as_posix(): path.read_bytes() for path in paths}
        )
        whole = hashlib.sha256(b"\0".join(name.encode() + b"\0" + body for name, body in self._files.items()))
        self.digest = whole.hexdigest()[:16]

    def address(self, name: str) -> str:
        """Returns the address of a file.

        Raises:
            KeyError: There is no such file.
        """
        self._files[name]
        return f"/static/{self.digest}/{name}"

    def read(self, digest: str, name: str) -> tuple[bytes, str] | None:
        """Returns the bytes and the kind of a file; None if there is none, or if it was of another release."""
        if digest != self.digest or name not in self._files:
            return None
        return self._files[name], _KINDS[Path(name).suffix]
