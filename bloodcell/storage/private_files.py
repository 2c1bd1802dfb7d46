"""Files and folders that only their user may read, or also the group that shares a store.

The command line sets a umask of 077, so all that a process writes, Airflow's files included, is for its user only. A
store decides for itself, because Airflow's workers may have another umask: its objects follow the group rights of its
folder, and without any they are private.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bloodcell.errors import ConfigurationError

_FILE: Final = 0o600
_FOLDER: Final = 0o700


def keep_private() -> None:
    """Lets this process and those that it starts write files for their user only."""
    os.umask(0o077)


@dataclass(frozen=True, slots=True)
class Rights:
    """The permissions of new files and folders.

    Attributes:
        file: Mode of a file.
        folder: Mode of a folder.
    """

    file: int = _FILE
    folder: int = _FOLDER

    @classmethod
    def like(cls, root: Path) -> Rights:
        """Returns the rights below a folder: the group may do what it may do there, others may do nothing."""
        try:
            mode = root.stat().st_mode
        except OSError:
            return cls()
        return cls(_FILE | mode & (stat.S_IRGRP | stat.S_IWGRP), _FOLDER | mode & (stat.S_IRWXG | stat.S_ISGID))

    @property
    def is_private(self) -> bool:
        """Whether the group has no rights, so that no umask has to be undone."""
        return self == Rights()

    def make_folder(self, folder: Path) -> None:
        """Creates a folder and its parents with these rights; one that exists keeps its own.

        Raises:
            OSError: The folder cannot be created.
        """
        missing = [each for each in (folder, *folder.parents) if not each.exists()]
        for each in reversed(missing):
            each.mkdir(mode=self.folder, exist_ok=True)
            if not self.is_private:
                each.chmod(self.folder)


def make_data_folder(folder: Path) -> None:
    """Creates the data folder for this user only, and refuses one that another user could have prepared.

    Raises:
        ConfigurationError: It cannot be created or used, belongs to another user, or every user may write to it.
    """
    another = "Set BLOODCELL_DATA_DIR to a folder of your own."
    if folder.parts[:1] == ("~",):
        raise ConfigurationError(f"The data folder {folder} needs a home folder, and this user has none. {another}")
    try:
        Rights().make_folder(folder)
        status = folder.stat()
        is_usable = os.access(folder, os.R_OK | os.W_OK | os.X_OK)
    except OSError as error:
        raise ConfigurationError(
            f"The data folder {folder} cannot be created: {error.strerror}. Set BLOODCELL_DATA_DIR to a folder that "
            "this user can write to."
        ) from error
    if status.st_uid not in (os.geteuid(), 0):
        raise ConfigurationError(f"The data folder {folder} belongs to {owner_of(folder)}. {another}")
    if not stat.S_ISDIR(status.st_mode) or not is_usable:
        raise ConfigurationError(f"The data folder {folder} is not a folder that this user can write to. {another}")
    if status.st_mode & stat.S_IWOTH:
        raise ConfigurationError(
            f"Every user of this machine may write to the data folder {folder}, and could replace what is in it. "
            f"If nobody has used that right, remove it (chmod o-w {folder}); or set BLOODCELL_DATA_DIR to another."
        )


def owner_of(path: Path) -> str:
    """Returns the name of a file's owner, or what stands for it."""
    try:
        return path.owner()
    except (OSError, KeyError):
        return "another user"
