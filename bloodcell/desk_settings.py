"""The settings of the review desk, a group of `bloodcell.settings`: its address, who may log in, and by what.

What one log-in needs of several settings is checked where that log-in begins (`bloodcell.review.ldap_login`,
`oidc_login`), not here: a worker that classifies cells reads the same variables, but does not get the desk's secrets.
"""

from __future__ import annotations

import re
from typing import Final, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import AnyHttpUrl, BaseModel, Field, field_validator, model_validator

from bloodcell.setting_types import OptionalPath, OptionalSecret, OptionalText

Role = Literal["viewer", "reader", "senior", "administrator"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
LoginKind = Literal["local", "ldap", "oidc"]

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_NAME_TEST: Final = re.compile(r"\(([A-Za-z][A-Za-z0-9-]*)=\{name\}\)")


class DeskSettings(BaseModel):
    """Where the review desk is, who may log in to it, and how long."""

    desk_url: str = Field("http://127.0.0.1:8090", description="Address on which `bloodcell desk` listens.")
    desk_public_url: OptionalText = Field(
        None,
        description="Address of the reverse proxy that shows the desk to others (https://...); the proxy's "
        "X-Forwarded-For is then believed. Default: there is no proxy.",
    )
    desk_login: LoginKind = Field(
        "local",
        description="How people log in: local (names and passwords of `bloodcell users`), ldap (a directory), or "
        "oidc (an OpenID provider).",
    )
    desk_users_file: OptionalPath = Field(
        None, description="File of `bloodcell users`; default: <data_dir>/desk/users.json."
    )
    desk_idle_min: float = Field(
        15, gt=0, le=480, description="Minutes without a request after which the desk asks for the log-in again."
    )
    desk_session_h: float = Field(
        12, gt=0, le=24, description="Hours after which the desk asks for the log-in again, also of a busy person."
    )
    desk_groups: str = Field(
        "",
        description="Role that each group of the directory or OpenID provider gives, as GROUP=ROLE;GROUP=ROLE, "
        "with the roles viewer, reader, senior and administrator. Nobody else may log in.",
    )
    desk_um_per_px: float | None = Field(
        None, gt=0, le=10, description="Micrometres per pixel of the analyser's images, for a scale bar; default: none."
    )
    desk_training_cells: int = Field(
        60,
        ge=0,
        le=600,
        description="Cells of a night that the desk offers to label for training: a third uncertain, a third novel, "
        "and a third from the random sample, which is read blind; 0 offers none.",
    )
    desk_texts_dir: OptionalPath = Field(
        None, description="Folder with catalogues CODE.po that add a language to the desk, or replace one."
    )
    desk_proxy: str = Field(
        "127.0.0.1",
        description="Addresses of the reverse proxy of desk_public_url, separated by commas: only its X-Forwarded-For "
        "is believed.",
    )
    desk_ca_file: OptionalPath = Field(
        None,
        description="PEM file with the certificate authority of the directory or OpenID provider; default: those "
        "that the system trusts.",
    )
    desk_oidc_issuer: OptionalText = Field(
        None, description="Issuer of the OpenID provider (https://...), exactly as it names itself."
    )
    desk_oidc_client_id: OptionalText = Field(None, description="Client id that the OpenID provider gave the desk.")
    desk_oidc_client_secret: OptionalSecret = Field(
        None, description="Client secret that the OpenID provider gave the desk."
    )
    desk_oidc_name_claim: str = Field(
        "preferred_username",
        min_length=1,
        description="Claim with the name under which a person labels and signs; the provider must never give a name "
        "to another person.",
    )
    desk_oidc_groups_claim: str = Field("groups", min_length=1, description="Claim with the groups of a person.")
    desk_ldap_url: OptionalText = Field(
        None,
        description="Address of the directory: ldaps://host, or ldap://host, which is used with StartTLS unless it is "
        "this machine.",
    )
    desk_ldap_base: OptionalText = Field(None, description="DN below which people are searched for.")
    desk_ldap_filter: str = Field(
        "(uid={name})",
        description="Filter that finds one person by the name given at log-in. The attribute that is compared with "
        "{name} holds the name under which the person labels and signs; Active Directory: (sAMAccountName={name}).",
    )
    desk_ldap_bind_dn: OptionalText = Field(
        None, description="DN of the account that searches for people; default: a search without a log-in."
    )
    desk_ldap_bind_password: OptionalSecret = Field(None, description="Password of that account.")
    desk_ldap_group_base: OptionalText = Field(
        None,
        description="DN below which the groups are searched for that name the person as member, uniqueMember or "
        "memberUid; default: the groups are those of the person's attribute memberOf.",
    )

    @field_validator("desk_url")
    @classmethod
    def _desk_url_is_an_address(cls, url: str) -> str:
        return _address(url, ("http",), "http://127.0.0.1:8090")

    @field_validator("desk_public_url", "desk_oidc_issuer")
    @classmethod
    def _others_are_reached_by_tls(cls, url: str | None, info: object) -> str | None:
        if url is None:
            return None
        is_issuer = getattr(info, "field_name", None) == "desk_oidc_issuer"
        schemes = ("http", "https") if urlsplit(url).hostname in _LOOPBACK else ("https",)
        checked = _address(url, schemes, "https://desk.example.org", has_path=is_issuer)
        return url if is_issuer else checked  # an issuer is compared character by character

    @field_validator("desk_ldap_url")
    @classmethod
    def _directory_has_an_address(cls, url: str | None) -> str | None:
        return None if url is None else _address(url, ("ldap", "ldaps"), "ldaps://directory.example.org")

    @field_validator("desk_ldap_filter")
    @classmethod
    def _filter_compares_one_attribute_with_the_name(cls, text: str) -> str:
        without = _NAME_TEST.sub("", text, count=1)
        is_whole = text.startswith("(") and text.endswith(")") and text.count("(") == text.count(")")
        if without == text or "{" in without or "}" in without or not is_whole:
            raise ValueError("expected a filter with (ATTRIBUTE={name}) once, as in (uid={name})")
        return text

    @field_validator("desk_groups")
    @classmethod
    def _groups_give_roles(cls, text: str) -> str:
        _roles_by_group(text)
        return text

    @model_validator(mode="after")
    def _a_session_outlasts_its_pauses(self) -> Self:
        if self.desk_idle_min > self.desk_session_h * 60:
            raise ValueError(
                f"BLOODCELL_DESK_IDLE_MIN ({self.desk_idle_min:g} minutes) is longer than BLOODCELL_DESK_SESSION_H "
                f"({self.desk_session_h:g} hours). Next: make the first shorter, or the second longer."
            )
        return self

    @property
    def desk_origin(self) -> str:
        """Address of the desk as browsers name it: scheme, host in small letters, and a port that is not the usual."""
        return str(AnyHttpUrl(self.desk_public_url or self.desk_url)).rstrip("/")

    @property
    def roles_by_group(self) -> dict[str, frozenset[Role]]:
        """Group of the directory or OpenID provider -> the roles that it gives."""
        return _roles_by_group(self.desk_groups)

    @property
    def ldap_name_attribute(self) -> str:
        """Attribute of the directory with the name of a person."""
        found = _NAME_TEST.search(self.desk_ldap_filter)
        return found[1] if found else ""  # the validator has seen it


def is_this_machine(url: str) -> bool:
    """Returns whether an address is one of this machine's own, which nobody else can listen to."""
    return urlsplit(url).hostname in _LOOPBACK


def _address(url: str, schemes: tuple[str, ...], example: str, *, has_path: bool = False) -> str:
    """Returns an address without the slash at its end, if it is a scheme, a host and a port."""
    parts = urlsplit(url)
    try:
        is_sound = parts.hostname is not None and parts.port != 0
    except ValueError:  # a port that is no number
        is_sound = False
    extra = parts.query or parts.fragment or parts.username or (parts.path.strip("/") and not has_path)
    if parts.scheme not in schemes or not is_sound or extra:
        raise ValueError(f"expected an address such as {example}{'' if has_path else ', without a path'}")
    return url.rstrip("/")


def _roles_by_group(text: str) -> dict[str, frozenset[Role]]:
    found: dict[str, frozenset[Role]] = {}
    for entry in filter(None, (each.strip() for each in text.split(";"))):
        group, _, role = (part.strip() for part in entry.rpartition("="))
        named = next((each for each in ROLES if each == role), None)
        if not group or named is None:
            raise ValueError(f"expected GROUP=ROLE with a role of {', '.join(ROLES)}, found {entry!r}")
        # `a=reader,b=senior` would be a group of the name `a=reader,b`
        if "=" in group and not all("=" in part for part in re.split(r"(?<!\\),", group)):
            raise ValueError(f"expected semicolons between the groups, found {entry!r}")
        found[group] = found.get(group, frozenset()) | {named}
    return found
