"""Log-in by a directory, against a real OpenLDAP."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bloodcell.errors import ConfigurationError, DirectoryUnavailableError, LoginRefusedError, SettingError
from bloodcell.review import ldap_login
from bloodcell.review.ldap_login import Directory, check_ldap
from bloodcell.review.people import Person
from bloodcell.settings import Settings
from tests.review.foreign_provider import free_port
from tests.review.openldap import PASSWORD, SERVICE_DN, SERVICE_PASSWORD, OpenLdap, certificates, openldap

READER: Any = frozenset({"reader"})
GROUPS = (
    "cn=readers,ou=groups,dc=example,dc=org=reader; CN=Chiefs, OU=groups, DC=example, DC=org=senior;"
    "cn=seniors,ou=groups,dc=example,dc=org=senior"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenLdap]:
    with openldap(tmp_path_factory.mktemp("ldap")) as found:
        yield found


def directory(server: OpenLdap, **more: Any) -> Directory:
    values: dict[str, Any] = {
        "desk_login": "ldap", "desk_ldap_url": f"ldaps://localhost:{server.ldaps_port}", "desk_ca_file": server.ca_file,
        "desk_ldap_base": "ou=people,dc=example,dc=org", "desk_ldap_bind_dn": SERVICE_DN,
        "desk_ldap_bind_password": SERVICE_PASSWORD, "desk_groups": GROUPS,
    }  # fmt: skip
    return Directory(Settings(**values | more))


@pytest.mark.parametrize("name", ["amartin", "AMartin", " amartin ", "\uff41martin"])
def test_a_person_logs_in_and_has_the_directorys_name(server: OpenLdap, name: str) -> None:
    """OpenLDAP finds a name in any case, and written with wide letters: all of these are one person."""
    assert check_ldap(directory(server), name, PASSWORD) == Person("amartin", frozenset({"reader", "senior"}))


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("amartin", "wrong"), ("amartin", PASSWORD + " "), ("nobody", PASSWORD), ("", PASSWORD),
        ("a\0martin", PASSWORD),
        ("x" * 101, PASSWORD), ("amartin", "x" * 100_000),
    ],
)  # fmt: skip
def test_a_wrong_name_or_password_is_nobodys(server: OpenLdap, name: str, password: str) -> None:
    assert check_ldap(directory(server), name, password) is None


def test_an_empty_password_is_nobodys_although_the_directory_accepts_it(server: OpenLdap) -> None:
    """A bind with a DN and an empty password succeeds, as nobody (RFC 4513, 5.1.2)."""
    assert check_ldap(directory(server), "amartin", "") is None
    assert not directory(server).has_password("uid=amartin,ou=people,dc=example,dc=org", "")
    assert not directory(server).has_password("", PASSWORD)


@pytest.mark.parametrize(
    "name",
    [
        "*",
        "a*",
        "*)(uid=*",
        "amartin)(|(uid=*",
        "*)(objectClass=*",
        "amartin)(userPassword=*",
        "\\2a",
        "amartin\\00",
        "(",
    ],
)
def test_a_name_is_never_part_of_the_filter(server: OpenLdap, name: str) -> None:
    assert check_ldap(directory(server), name, PASSWORD) is None


def test_a_name_with_special_characters_can_log_in(server: OpenLdap) -> None:
    assert check_ldap(directory(server), "o*(d)d", PASSWORD) == Person("o*(d)d", READER)


def test_two_people_of_one_name_are_nobody(server: OpenLdap) -> None:
    assert check_ldap(directory(server), "twin", PASSWORD) == Person("twin", READER)
    with pytest.raises(ConfigurationError, match="several people of the name twin"):
        check_ldap(directory(server, desk_ldap_base="dc=example,dc=org"), "twin", PASSWORD)


def test_a_person_in_no_group_of_the_desk_is_refused_but_only_with_the_password(server: OpenLdap) -> None:
    with pytest.raises(LoginRefusedError, match="cdiaz has no role"):
        check_ldap(directory(server), "cdiaz", PASSWORD)
    assert check_ldap(directory(server), "cdiaz", "wrong") is None


def test_groups_that_name_their_members_are_found(server: OpenLdap) -> None:
    found = directory(server, desk_ldap_group_base="ou=groups,dc=example,dc=org")
    assert check_ldap(found, "amartin", PASSWORD) == Person("amartin", frozenset({"reader", "senior"}))
    assert check_ldap(found, "cdiaz", PASSWORD) == Person("cdiaz", frozenset({"senior"}))
    assert check_ldap(found, "o*(d)d", PASSWORD) == Person("o*(d)d", READER)


def test_another_filter_names_people_by_another_attribute(server: OpenLdap) -> None:
    found = directory(server, desk_ldap_filter="(&(objectClass=inetOrgPerson)(cn={name}))")
    assert check_ldap(found, "amartin", PASSWORD) == Person("amartin", frozenset({"reader", "senior"}))


def test_start_tls_protects_the_port_without_tls(server: OpenLdap, monkeypatch: pytest.MonkeyPatch) -> None:
    found = directory(server, desk_ldap_url=f"ldap://127.0.0.2:{server.ldap_port}")
    assert check_ldap(found, "amartin", PASSWORD)
    monkeypatch.setattr(ldap_login, "_checked_tls", _refuse_tls)
    with pytest.raises(DirectoryUnavailableError):
        check_ldap(found, "amartin", PASSWORD)
    on_this_machine = directory(server, desk_ldap_url=f"ldap://127.0.0.1:{server.ldap_port}")
    assert check_ldap(on_this_machine, "amartin", PASSWORD)


def test_a_certificate_of_another_authority_or_host_is_refused(server: OpenLdap, tmp_path: Path) -> None:
    for url in (f"ldaps://localhost:{server.ldaps_port}", f"ldap://127.0.0.2:{server.ldap_port}"):
        unknown = directory(server, desk_ldap_url=url, desk_ca_file=None)
        with pytest.raises(DirectoryUnavailableError, match="certificate verify failed"):
            check_ldap(unknown, "amartin", PASSWORD)
    with openldap(tmp_path, names=("directory.example.org", "10.0.0.1")) as other:
        for url in (f"ldaps://localhost:{other.ldaps_port}", f"ldap://127.0.0.2:{other.ldap_port}"):
            with pytest.raises(DirectoryUnavailableError, match=r"certificate is not valid for|doesn't match|mismatch"):
                check_ldap(directory(other, desk_ldap_url=url), "amartin", PASSWORD)


def test_a_directory_that_is_away_is_named_and_no_password_is(server: OpenLdap) -> None:
    away = directory(server, desk_ldap_url=f"ldaps://localhost:{free_port()}")
    with pytest.raises(DirectoryUnavailableError, match="cannot be used") as caught:
        check_ldap(away, "amartin", PASSWORD)
    assert PASSWORD not in str(caught.value) and SERVICE_PASSWORD not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


@pytest.mark.parametrize("scheme", ["ldap", "ldaps"])
def test_a_directory_that_never_answers_is_given_up(
    server: OpenLdap, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ldap_login, "_PATIENCE_S", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = directory(server, desk_ldap_url=f"{scheme}://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(DirectoryUnavailableError):
            check_ldap(found, "amartin", PASSWORD)


def test_what_is_no_directory_is_refused(server: OpenLdap) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        found = directory(server, desk_ldap_url=f"ldap://127.0.0.1:{listening.getsockname()[1]}")

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        answering = threading.Thread(target=answer)
        answering.start()
        with pytest.raises(DirectoryUnavailableError):
            check_ldap(found, "amartin", PASSWORD)
        answering.join()


def test_an_account_that_may_not_search_is_the_configurations_fault(server: OpenLdap) -> None:
    wrong = directory(server, desk_ldap_bind_password="wrong")
    with pytest.raises(ConfigurationError, match="BLOODCELL_DESK_LDAP_BIND_PASSWORD"):
        check_ldap(wrong, "amartin", PASSWORD)
    nobody = directory(server, desk_ldap_bind_dn=None, desk_ldap_bind_password=None)
    with pytest.raises(ConfigurationError, match="BLOODCELL_DESK_LDAP_BASE"):
        check_ldap(nobody, "amartin", PASSWORD)
    elsewhere = directory(server, desk_ldap_base="dc=elsewhere")
    with pytest.raises(ConfigurationError, match="BLOODCELL_DESK_LDAP_BASE"):
        check_ldap(elsewhere, "amartin", PASSWORD)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"desk_ldap_url": None}, "BLOODCELL_DESK_LDAP_URL"), ({"desk_ldap_base": None}, "BLOODCELL_DESK_LDAP_BASE"),
        ({"desk_groups": ""}, "BLOODCELL_DESK_GROUPS"), ({"desk_groups": "readers=reader"}, "named by its DN"),
        ({"desk_ldap_bind_password": None}, "BLOODCELL_DESK_LDAP_BIND_DN"),
        ({"desk_ca_file": "/nowhere.pem"}, "BLOODCELL_DESK_CA_FILE"),
    ],
)  # fmt: skip
def test_missing_settings_are_named(tmp_path: Path, more: dict[str, Any], named: str) -> None:
    certificates(tmp_path, ("localhost",))
    with pytest.raises(SettingError, match=named):
        directory(OpenLdap(636, 389, tmp_path / "ca.pem"), **more)


def _refuse_tls(_: object) -> Any:
    from ldap3 import Tls

    class NoTls(Tls):  # type: ignore[misc]
        def wrap_socket(self, *_: object, **__: object) -> None:
            raise OSError("no TLS")

    return NoTls()
