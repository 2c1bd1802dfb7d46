"""The content-addressed store: images and model bundles under their digests, on a local path or any fsspec URL.

A file gets its final name only when it is complete, so no name belongs to half a file.
"""

from __future__ import annotations

import filecmp
import hashlib
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import fsspec
from fsspec.implementations.local import LocalFileSystem

from bloodcell.errors import ConfigurationError, StoreUnavailableError
from bloodcell.storage.atomic_write import make_durable, part_folder, write_atomically
from bloodcell.storage.durability import DurableFolder
from bloodcell.storage.private_files import Rights
from bloodcell.storage.stored_objects import StoredObjects

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bloodcell.settings import StorageSettings

_MANIFEST = "bundle.json"


class Store:
    """Images and bundles by digest; identical bytes are kept once.

    Args:
        url: Path or fsspec URL.
        cache: Local folder for copies of bundles, used if the store itself is not local.
    """

    def __init__(self, url: str, cache: Path) -> None:
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise ConfigurationError(
                f"The store {url!r} (BLOODCELL_STORE_URL) cannot be opened: {error}. For s3:// install bloodcell[s3]."
            ) from error
        self._is_local = isinstance(self._fs, LocalFileSystem)
        self._cache = cache
        self._folders: set[str] = set()
        self._durable = DurableFolder(self._root) if self._is_local else None
        self._rights = Rights.like(Path(self._root)) if self._is_local else Rights()

    @classmethod
    def of(cls, settings: StorageSettings) -> Store:
        return cls(settings.store, settings.data_dir / "cache" / "models")

    def put_image(self, sha256: str, body: bytes) -> None:
        """Stores an image under its digest; storing it again does no harm.

        On a local path the bytes are durable only after `flush`.

        Args:
            sha256: Digest of the image.
            body: Its bytes.

        Raises:
            StoreUnavailableError: The disk is full, a share is unmounted or access was refused.
        """
        path = self._image(sha256)
        try:
            if self._is_local:
                self._put_local(path, body)
            elif not self._fs.exists(path):
                self._fs.pipe_file(path, body)  # an object store shows an object only when it is complete
        except OSError as error:
            raise StoreUnavailableError(
                f"The store {self._root} cannot keep image {sha256[:12]}… ({len(body):,} bytes): {error}. "
                "Free space or restore access, then run this again: nothing was lost or recorded without its image."
            ) from error

    def flush(self) -> None:
        """Makes everything that was stored so far durable.

        Raises:
            StoreUnavailableError: The disk lost something that was stored; store it again.
        """
        try:
            if self._durable:
                self._durable.flush()
        except OSError as error:
            raise StoreUnavailableError(
                f"The store {self._root} lost what was just written: {error.strerror}. The disk is full or failing, "
                "even if it shows free space. Repair it, then run this again: nothing was recorded without its image."
            ) from error

    def close(self) -> None:
        """Lets go of the store's file system; what was stored since the last `flush` may not survive a power cut."""
        if self._durable:
            self._durable.close()

    def read_image(self, sha256: str) -> bytes:
        """Returns the image with this digest, after checking it against the digest.

        Raises:
            StoreUnavailableError: The image is missing, cannot be read, or was altered.
        """
        path = self._image(sha256)
        try:
            body = Path(path).read_bytes() if self._is_local else bytes(self._fs.cat_file(path))
        except OSError as error:
            raise StoreUnavailableError(
                f"Image {sha256} cannot be read from the store {self._root}: {error}. {self._how_to_restore(sha256)}"
            ) from error
        received = hashlib.sha256(body).hexdigest()
        if received != sha256:
            raise StoreUnavailableError(
                f"Image {sha256} in the store {self._root} was altered: its digest is {received}. "
                f"{self._how_to_restore(sha256)}"
            )
        return body

    def has_image(self, sha256: str) -> bool:
        """Returns whether the store has a file for this image; its bytes are not read.

        Raises:
            StoreUnavailableError: The store cannot be reached.
        """
        try:
            return bool(self._fs.exists(self._image(sha256)))
        except OSError as error:
            raise StoreUnavailableError(f"The store {self._root} cannot be read: {error}") from error

    def remove_images(self, sha256s: Iterable[str]) -> list[str]:
        """Removes the images with these digests for good, and returns those that were there.

        Raises:
            StoreUnavailableError: The store is not there, or an image cannot be removed.
        """
        self.check()  # in a share that is not mounted, every image would look as if it were gone
        removed, sha256 = [], ""
        try:
            for sha256 in sha256s:
                with suppress(FileNotFoundError):
                    self._fs.rm_file(self._image(sha256))
                    removed.append(sha256)
            if self._is_local:
                for folder in {Path(self._image(each)).parent for each in removed}:
                    make_durable(folder)
        except OSError as error:
            raise StoreUnavailableError(
                f"Image {sha256[:12]}… cannot be removed from the store {self._root}: {error}. Restore access, then "
                "run this again."
            ) from error
        return removed

    def put_bundle(self, folder: Path, model_id: str) -> None:
        """Stores the files of a verified bundle; on a local path, a stored copy that differs is replaced.

        On an object store the manifest is written last: files without a manifest are not a bundle, and a bundle with
        one is left as it is.

        Args:
            folder: The bundle.
            model_id: Its digest.

        Raises:
            StoreUnavailableError: The disk is full, a share is unmounted or access was refused.
        """
        target = self._bundle(model_id)
        try:
            if self._is_local:
                self._put_bundle_local(folder, Path(target))
            elif not self._fs.exists(f"{target}/{_MANIFEST}"):
                for path in sorted(folder.iterdir(), key=lambda path: (path.name == _MANIFEST, path.name)):
                    self._fs.put_file(str(path), f"{target}/{path.name}")
        except OSError as error:
            raise StoreUnavailableError(
                f"Bundle {model_id[:12]} cannot be kept in the store {self._root}: {error}. "
                "Free space or restore access, then register it again."
            ) from error

    def put_report(self, model_id: str, page: bytes) -> str:
        """Stores a page about a model under the page's digest, and returns its path or URL.

        Args:
            model_id: The model.
            page: HTML.

        Raises:
            StoreUnavailableError: The disk is full, a share is unmounted or access was refused.
        """
        target = f"{self._root}/reports/{model_id}/{hashlib.sha256(page).hexdigest()[:16]}.html"
        try:
            if self._is_local:
                self._put_local(target, page)
                self.flush()
            else:
                self._fs.pipe_file(target, page)
        except OSError as error:
            raise StoreUnavailableError(
                f"The report on model {model_id[:12]} cannot be kept in the store {self._root}: {error}. "
                "Free space or restore access, then run this again."
            ) from error
        return str(self._fs.unstrip_protocol(target)) if not self._is_local else target

    def read_report(self, model_id: str, path: str) -> bytes:
        """Returns a page that `put_report` stored, after checking it against the digest in its name.

        Args:
            model_id: The model.
            path: What `put_report` returned; the store may be elsewhere by now.

        Raises:
            StoreUnavailableError: The page is missing, cannot be read, or was altered.
        """
        name = path.rpartition("/")[2]
        source = f"{self._root}/reports/{model_id}/{name}"
        try:
            page = Path(source).read_bytes() if self._is_local else bytes(self._fs.cat_file(source))
        except OSError as error:
            raise StoreUnavailableError(
                f"The report {name} on model {model_id[:12]} cannot be read: {error}."
            ) from error
        if hashlib.sha256(page).hexdigest()[:16] != name.removesuffix(".html"):
            raise StoreUnavailableError(f"The report {name} on model {model_id[:12]} was altered.")
        return page

    @property
    def objects(self) -> StoredObjects:
        """The objects as they are, for verification."""
        return StoredObjects(self._fs, self._root, self._rights, is_local=self._is_local)

    def check(self) -> None:
        """Raises StoreUnavailableError unless the store can be reached.

        Raises:
            StoreUnavailableError: A share is unmounted, or a bucket is gone.
        """
        try:
            if self._fs.isdir(f"{self._root}/images") or self._fs.isdir(f"{self._root}/models"):
                return
            why = "it holds neither images nor models"
        except OSError as error:
            why = str(error)
        raise StoreUnavailableError(
            f"The store {self._root} is unavailable: {why}. Mount it or restore access, then run this again: "
            "nothing is lost."
        )

    def bundle_folder(self, model_id: str, *, fresh: bool = False) -> Path:
        """Returns a local folder with the bundle's files: the store's own, or a copy fetched from it.

        Nothing is verified here: `bloodcell.registry.bundle.open_bundle` does that.

        Args:
            model_id: Which bundle.
            fresh: Fetch the bundle again even if there is a copy, to see what the store itself holds.

        Raises:
            StoreUnavailableError: The store cannot be read.
        """
        if self._is_local:
            folder = Path(self._bundle(model_id))
            if not folder.is_dir():
                self.check()
            return folder
        local = self._cache / model_id
        if local.is_dir() and not fresh:
            return local
        self._cache.mkdir(parents=True, exist_ok=True)
        try:
            with part_folder(local) as part:
                self._fs.get(f"{self._bundle(model_id)}/", f"{part}/", recursive=True)
                if fresh and local.is_dir():
                    local.rename(part.with_suffix(".old"))
                    shutil.rmtree(part.with_suffix(".old"))
                part.rename(local)
        except OSError as error:
            if fresh or not local.is_dir():  # unless another worker fetched it meanwhile
                raise StoreUnavailableError(
                    f"Bundle {model_id[:12]} cannot be fetched from the store {self._root}: {error}"
                ) from error
        return local

    def _how_to_restore(self, sha256: str) -> str:
        return (
            "Next: bloodcell store verify --repair, which takes its original from the drops folder, or from a "
            f"backup that --from names, and puts it at {self._image(sha256)}."
        )

    def _image(self, sha256: str) -> str:
        return f"{self._root}/images/{sha256[:2]}/{sha256}"

    def _bundle(self, model_id: str) -> str:
        return f"{self._root}/models/{model_id}"

    def _put_bundle_local(self, folder: Path, target: Path) -> None:
        # completed beside its final place, so that a kill or a full disk leaves no half bundle under a model's id
        if _same_files(folder, target):
            return
        self._rights.make_folder(target.parent)
        with part_folder(target) as part:
            if self._durable:
                for path in folder.iterdir():
                    self._durable.will_write(str(part / path.name))
            self._rights.make_folder(part)
            for path in folder.iterdir():
                shutil.copyfile(path, part / path.name)
                (part / path.name).chmod(self._rights.file)
            self.flush()
            if not target.exists():
                part.rename(target)
                make_durable(target.parent)
                return
            for path in part.iterdir():
                path.replace(target / path.name)
            for path in target.iterdir():
                if not (folder / path.name).exists():
                    path.unlink()

    def _put_local(self, path: str, body: bytes) -> None:
        # does not look first whether the file exists, which would cost a system call more for each image
        if self._durable:
            self._durable.will_write(path)
        folder = path.rpartition("/")[0]
        if folder not in self._folders:
            self._rights.make_folder(Path(folder))
            self._folders.add(folder)
        write_atomically(path, body, self._rights.file)


def _same_files(folder: Path, other: Path) -> bool:
    if not other.is_dir() or {path.name for path in folder.iterdir()} != {path.name for path in other.iterdir()}:
        return False
    return all(filecmp.cmp(path, other / path.name, shallow=False) for path in folder.iterdir())
