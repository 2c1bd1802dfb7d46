"""Log-in by the site's directory: one entry is found by the name, and the directory checks the password.

ldap3 2.9.1 (of 2021) compares the host's name with the certificate by code of its own. Connections are made with
Python's TLS here, which checks both.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from bloodcell.desk_settings import Role, is_this_machine
from bloodcell.errors import (
    ConfigurationError,
    DirectoryUnavailableError,
    LoginRefusedError,
    NameRefusedError,
    SettingError,
)
from bloodcell.review.people import Person, person_name, roles_of

if TYPE_CHECKING:
    from ldap3 import Connection

    from bloodcell.desk_settings import DeskSettings

_PATIENCE_S: Final = 5
_MOST_GROUPS: Final = 1_000
_SUCCESS: Final = 0
_TOO_MANY: Final = 4
_WRONG_PASSWORD: Final = frozenset({19, 32, 34, 48, 49, 50, 53})
"""Results of a bind that say no to this person: wrong, locked or expired password, an account that may not log in.

Source: RFC 4511, appendix A.2.
"""


class Directory:
    """The directory of the settings.

    Args:
        settings: The settings of the desk.

    Raises:
        SettingError: A setting that the log-in needs is missing.
    """

    def __init__(self, settings: DeskSettings) -> None:
        url, base = settings.desk_ldap_url, settings.desk_ldap_base
        needed = {
            "BLOODCELL_DESK_LDAP_URL": url,
            "BLOODCELL_DESK_LDAP_BASE": base,
            "BLOODCELL_DESK_GROUPS": settings.desk_groups.strip(),
        }
        missing = [name for name, value in needed.items() if not value]
        if missing or url is None or base is None:
            raise SettingError(f"BLOODCELL_DESK_LOGIN is ldap, which also needs {' and '.join(missing)}.")
        password = settings.desk_ldap_bind_password
        if (settings.desk_ldap_bind_dn is None) != (password is None):
            raise SettingError(
                "BLOODCELL_DESK_LDAP_BIND_DN and BLOODCELL_DESK_LDAP_BIND_PASSWORD belong together: set both, or "
                "neither."
            )
        try:
            self._tls: Final = ssl.create_default_context(cafile=settings.desk_ca_file)
        except (OSError, ssl.SSLError) as error:
            raise SettingError(f"BLOODCELL_DESK_CA_FILE: {settings.desk_ca_file} cannot be used: {error}.") from error
        self.url: Final = url
        self.base: Final = base
        self.filter: Final = settings.desk_ldap_filter
        self.name_attribute: Final = settings.ldap_name_attribute
        self.group_base: Final = settings.desk_ldap_group_base
        self._searcher: Final = settings.desk_ldap_bind_dn
        self._password: Final = password.get_secret_value() if password else None
        self.roles_by_group: Final = _by_comparable_dn(settings.roles_by_group)

    @contextmanager
    def searching(self) -> Iterator[Connection]:
        """Yields a connection that may search for people.

        Raises:
            ConfigurationError: The directory refuses the account that searches.
            DirectoryUnavailableError: The directory cannot be reached.
        """
        with self._connected(self._searcher, self._password) as connection:
            if connection is None:
                raise ConfigurationError(
                    f"The directory {self.url} refuses the account that searches for people. Check "
                    "BLOODCELL_DESK_LDAP_BIND_DN and BLOODCELL_DESK_LDAP_BIND_PASSWORD."
                )
            yield connection

    def has_password(self, dn: str, password: str) -> bool:
        """Returns whether an entry of the directory has this password.

        Args:
            dn: The entry.
            password: What the person typed; with an empty one, a directory would let anyone in as nobody.

        Raises:
            DirectoryUnavailableError: The directory cannot be reached.
        """
        if not dn or not password:
            return False
        with self._connected(dn, password) as connection:
            return connection is not None

    @contextmanager
    def _connected(self, dn: str | None, password: str | None) -> Iterator[Connection | None]:
        """Yields a connection that is logged in; None if the directory refuses the log-in."""
        from ldap3 import ANONYMOUS, NONE, SIMPLE, Connection, Server
        from ldap3.core.exceptions import LDAPException

        parts = urlsplit(self.url)
        is_tls = parts.scheme == "ldaps"
        try:
            server = Server(
                parts.hostname,
                port=parts.port or (636 if is_tls else 389),
                use_ssl=is_tls,
                tls=_checked_tls(self._tls),
                connect_timeout=_PATIENCE_S,
                get_info=NONE,
            )
            connection = Connection(
                server,
                user=dn,
                password=password,
                authentication=SIMPLE if dn else ANONYMOUS,
                receive_timeout=_PATIENCE_S,
                auto_referrals=False,  # another server must not get the password
                check_names=False,
                read_only=True,
            )
            try:
                connection.open(read_server_info=False)
                if not is_tls and not is_this_machine(self.url):
                    connection.start_tls(read_server_info=False)
                    if not connection.tls_started:
                        raise DirectoryUnavailableError(f"The directory {self.url} did not start TLS.")
                yield connection if self._is_bound(connection) else None
            finally:
                _close(connection)
        except (LDAPException, OSError) as error:
            # the text has no password; what led to it may have one
            raise DirectoryUnavailableError(
                f"The directory {self.url} cannot be used ({type(error).__name__}: {error}). Try again later."
            ) from None

    def _is_bound(self, connection: Connection) -> bool:
        connection.bind(read_server_info=False)
        result = connection.result["result"]
        if result not in _WRONG_PASSWORD | {_SUCCESS}:
            raise DirectoryUnavailableError(
                f"The directory {self.url} does not accept log-ins now ({connection.result['description']})."
            )
        return bool(result == _SUCCESS)


def check_ldap(directory: Directory, name: str, password: str) -> Person | None:
    """Returns the person with this name and password; None if the directory knows no such person.

    Args:
        directory: The directory.
        name: The name that the person typed; the person gets the name as the directory writes it.
        password: The password.

    Raises:
        ConfigurationError: The directory refuses the account that searches, or finds several people.
        DirectoryUnavailableError: The directory cannot be reached.
        LoginRefusedError: The password is right, but the person has no role.
    """
    if not password:
        return None
    try:
        typed = person_name(name)
    except NameRefusedError:
        return None
    with directory.searching() as connection:
        entry = _find(directory, connection, typed)
    if entry is None or not directory.has_password(entry["dn"], password):
        return None
    names = _texts(entry, directory.name_attribute)
    if len(names) != 1:
        raise LoginRefusedError(
            f"The directory has {len(names)} values of {directory.name_attribute} for this person; expected one."
        )
    found = person_name(names[0])
    if directory.group_base is None:
        groups = _texts(entry, "memberOf")
    else:
        with directory.searching() as connection:
            groups = _groups(directory, connection, entry["dn"], found)
    roles = roles_of(map(_comparable_dn, groups), directory.roles_by_group)
    if not roles:
        raise LoginRefusedError(
            f"{found} has no role at the desk: none of the person's groups is in BLOODCELL_DESK_GROUPS."
        )
    return Person(found, roles)


def _find(directory: Directory, connection: Connection, name: str) -> dict[str, Any] | None:
    """Returns the one entry of a name; None if there is none."""
    from ldap3.utils.conv import escape_filter_chars

    text = directory.filter.replace("{name}", escape_filter_chars(name))
    found = _search(directory, connection, directory.base, text, [directory.name_attribute, "memberOf"], most=2)
    if len(found) > 1:
        raise ConfigurationError(
            f"The directory finds several people of the name {name}, so nobody can log in by it. Make "
            "BLOODCELL_DESK_LDAP_FILTER or BLOODCELL_DESK_LDAP_BASE narrower."
        )
    return found[0] if found else None


def _groups(directory: Directory, connection: Connection, dn: str, name: str) -> list[str]:
    """Returns the groups that name a person as their member."""
    from ldap3.utils.conv import escape_filter_chars

    person, by_name = escape_filter_chars(dn), escape_filter_chars(name)
    text = f"(|(member={person})(uniqueMember={person})(memberUid={by_name}))"
    base = directory.group_base or ""
    return [entry["dn"] for entry in _search(directory, connection, base, text, ["1.1"], most=_MOST_GROUPS)]


def _search(
    directory: Directory, connection: Connection, base: str, text: str, attributes: list[str], *, most: int
) -> list[dict[str, Any]]:
    """Returns the entries that a search finds; referrals to other servers are left out."""
    connection.search(base, text, attributes=attributes, size_limit=most, time_limit=_PATIENCE_S)
    if connection.result["result"] not in (_SUCCESS, _TOO_MANY):
        raise ConfigurationError(
            f"The directory {directory.url} cannot search below {base} ({connection.result['description']}). Check "
            "BLOODCELL_DESK_LDAP_BASE, BLOODCELL_DESK_LDAP_GROUP_BASE, and what the account that searches may read."
        )
    return [entry for entry in connection.response or () if entry["type"] == "searchResEntry"]


def _texts(entry: dict[str, Any], attribute: str) -> list[str]:
    """Returns the values of an attribute, whose name a directory may write in another case."""
    values: list[bytes] = []
    for name, found in entry["raw_attributes"].items():
        if name.lower() == attribute.lower():
            values += found
    return [value.decode("utf-8", "replace") for value in values]


def _by_comparable_dn(roles: dict[str, frozenset[Role]]) -> dict[str, frozenset[Role]]:
    found: dict[str, frozenset[Role]] = {}
    for group, given in roles.items():
        key = _comparable_dn(group)
        if "=" not in key:
            raise SettingError(
                f"BLOODCELL_DESK_GROUPS: a group of a directory is named by its DN, as in "
                f"cn={group},ou=groups,dc=example,dc=org=reader; received {group!r}."
            )
        found[key] = found.get(key, frozenset()) | given
    return found


def _comparable_dn(dn: str) -> str:
    """Returns what two ways of writing a DN have in common: case and spaces around commas do not count."""
    from ldap3.core.exceptions import LDAPInvalidDnError
    from ldap3.utils.dn import parse_dn

    try:
        return ",".join(f"{name}={value}".casefold() for name, value, _ in parse_dn(dn, strip=True))
    except LDAPInvalidDnError:
        return ""


def _close(connection: Connection) -> None:
    """Ends a connection; ldap3 leaves the socket open when it could not connect, or when TLS failed."""
    from ldap3.core.exceptions import LDAPException

    with suppress(LDAPException, OSError):
        connection.unbind()
    if connection.socket is not None:
        connection.socket.close()


def _checked_tls(context: ssl.SSLContext) -> Any:
    """Returns what ldap3 makes connections secure with: Python's own check of certificate and host name."""
    from ldap3 import Tls

    class CheckedTls(Tls):  # type: ignore[misc]
        def wrap_socket(self, connection: Connection, do_handshake: bool = False) -> None:
            connection.socket = context.wrap_socket(connection.socket, server_hostname=connection.server.host)

    return CheckedTls(validate=ssl.CERT_REQUIRED)
