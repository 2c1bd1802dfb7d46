"""Finds what is wrong with this process's variables BLOODCELL_*: unknown names and values that are not allowed."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from bloodcell.errors import SettingError

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic.fields import FieldInfo

PREFIX: Final = "BLOODCELL_"
STACK_MARK: Final = "BLOODCELL_STACK"
"""Variable that marks every process of an installation started by `bloodcell up`; its value is the data folder."""
PROGRAM_MARK: Final = "BLOODCELL_PROGRAM"
"""Variable that names the program of `bloodcell up` to which a process belongs."""
NOT_SETTINGS: Final = frozenset({STACK_MARK, PROGRAM_MARK, "BLOODCELL_GPUS"})
"""Variables that are not settings; BLOODCELL_GPUS is for docker/init.py, but every container gets the same env file."""

# Kubernetes gives each pod variables with the addresses of its Services, several of which the Airflow chart names
# bloodcell-...
# Source: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE_LINK: Final = re.compile(r"(.*_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
_SERVICE_ADDRESS: Final = re.compile(r"(tcp|udp|sctp)://")


def refuse_unknown_variables(fields: Collection[str]) -> None:
    """Raises SettingError unless every variable BLOODCELL_* of this process is a setting or has another known use.

    Args:
        fields: Names of the settings, in lower case and without the prefix.

    Raises:
        SettingError: At least one variable is unknown; the message suggests the nearest setting for each.
    """
    known = {PREFIX + name.upper() for name in fields}
    unknown = [
        name
        for name, value in sorted(os.environ.items())
        if name.upper().startswith(PREFIX)
        and name.upper() not in known | NOT_SETTINGS
        and not _is_service_link(name, value)
    ]
    if unknown:
        raise SettingError("\n".join(_unknown_variable(name, known) for name in unknown))


def settings_error(error: ValidationError, fields: Mapping[str, FieldInfo]) -> SettingError:
    """Returns one error that names each wrong setting, what was expected and, except for secrets, what was received."""
    # a default that depends on other settings is not computed while one of them is wrong, and that is no second fault
    found = [each for each in error.errors() if each["type"] != "default_factory_not_called"]
    return SettingError("\n".join(_refused(each, fields) for each in found))


def _is_service_link(name: str, value: str) -> bool:
    if name.endswith("_PORT") and _SERVICE_ADDRESS.match(value):
        return True
    return _SERVICE_LINK.fullmatch(name.removeprefix(PREFIX)) is not None


def _unknown_variable(name: str, known: Collection[str]) -> str:
    nearest = _nearest(name.upper().removeprefix(PREFIX), (each.removeprefix(PREFIX) for each in known))
    suggestion = f"Did you mean {PREFIX}{nearest}?" if nearest else "The documentation lists all settings."
    return f"There is no setting {name}. {suggestion} Rename the variable, or unset it."


def _refused(each: Mapping[str, Any], fields: Mapping[str, FieldInfo]) -> str:
    if not each["loc"]:  # several settings together are wrong; the text names them
        return _expected(each)
    name = str(each["loc"][0])
    if name not in fields:
        nearest = _nearest(name, fields)
        return f"There is no setting {name!r}." + (f" Did you mean {nearest!r}?" if nearest else "")
    field = fields[name]
    is_secret = "SecretStr" in str(field.annotation)
    received = "its value is a secret and is not shown" if is_secret else f"received {each['input']!r}"
    return (
        f"{PREFIX}{name.upper()}: {_expected(each)}; {received}. Meaning: {field.description} "
        "Next: correct it, or unset it for the default."
    )


def _expected(each: Mapping[str, Any]) -> str:
    if each["type"] == "value_error":
        return str(each["ctx"]["error"])
    wanted, _, _ = each["msg"].removeprefix("Input should be ").partition(", unable to")
    return f"expected {'a number ' if wanted.startswith(('greater', 'less')) else ''}{wanted}"


def _nearest(name: str, known: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, sorted(known), n=1)), None)
