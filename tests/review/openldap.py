"""A real OpenLDAP (slapd) with people, groups and certificates, on free ports of this machine."""

from __future__ import annotations

import datetime
import ipaddress
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.review.foreign_provider import free_port

SERVICE_DN = "cn=desk,dc=example,dc=org"
SERVICE_PASSWORD = "only searches"  # noqa: S105
PASSWORD = "lamp orchid gravel nine"  # noqa: S105

_CONFIG = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
pidfile {folder}/slapd.pid
TLSCACertificateFile {folder}/ca.pem
TLSCertificateFile {folder}/server.pem
TLSCertificateKeyFile {folder}/server.key
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{service}" read by * none
database mdb
suffix "dc=example,dc=org"
rootdn "cn=root,dc=example,dc=org"
directory {folder}/data
overlay memberof
"""
_ENTRIES = """\
dn: dc=example,dc=org
objectClass: dcObject
objectClass: organization
dc: example
o: Example

dn: {service}
objectClass: organizationalRole
objectClass: simpleSecurityObject
userPassword: {service_password}

dn: ou=people,dc=example,dc=org
objectClass: organizationalUnit

dn: ou=guests,dc=example,dc=org
objectClass: organizationalUnit

dn: ou=groups,dc=example,dc=org
objectClass: organizationalUnit
"""
_GROUPS = "ou=groups,dc=example,dc=org"
_PERSON = """
dn: {rdn},ou={unit},dc=example,dc=org
objectClass: inetOrgPerson
cn: {name}
sn: {name}
uid: {name}
userPassword: {password}
{groups}
"""
_GROUP = """
dn: cn={name},ou=groups,dc=example,dc=org
objectClass: groupOfNames
{members}
"""


@dataclass(frozen=True, slots=True)
class OpenLdap:
    """A running directory.

    Attributes:
        ldaps_port: Port with TLS from the first byte.
        ldap_port: Port without, which knows StartTLS.
        ca_file: The certificate authority of its certificate.
    """

    ldaps_port: int
    ldap_port: int
    ca_file: Path


@contextmanager
def openldap(folder: Path, *, names: tuple[str, ...] = ("localhost", "127.0.0.1", "127.0.0.2")) -> Iterator[OpenLdap]:
    """Yields a running OpenLDAP.

    Args:
        folder: An empty folder.
        names: Host names and addresses in its certificate.
    """
    slapd, slapadd = (
        shutil.which("slapd", path="/usr/sbin:/usr/bin"),
        shutil.which("slapadd", path="/usr/sbin:/usr/bin"),
    )
    if slapd is None or slapadd is None:
        pytest.skip("needs OpenLDAP (Debian: slapd)")
    (folder / "data").mkdir()
    certificates(folder, names)
    config = folder / "slapd.conf"
    config.write_text(_CONFIG.format(folder=folder, service=SERVICE_DN))
    subprocess.run([slapadd, "-f", config], input=_people(), text=True, check=True, capture_output=True)
    ports = free_port(), free_port()
    urls = f"ldaps://127.0.0.1:{ports[0]} ldap://127.0.0.1:{ports[1]} ldap://127.0.0.2:{ports[1]}"
    log = (folder / "log").open("w")
    with log, subprocess.Popen([slapd, "-d", "0", "-h", urls, "-f", config], stderr=log) as process:
        try:
            _wait_for(ports[0], process, folder / "log")
            yield OpenLdap(*ports, folder / "ca.pem")
        finally:
            process.terminate()


def certificates(folder: Path, names: tuple[str, ...]) -> None:
    """Writes ca.pem, server.pem and server.key."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    ca = _certificate(ca_name, ca_key.public_key(), ca_name, ca_key, None)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    server = _certificate(subject, key.public_key(), ca_name, ca_key, names)
    for name, certificate in (("ca.pem", ca), ("server.pem", server)):
        (folder / name).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def _certificate(
    subject: x509.Name,
    public: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    names: tuple[str, ...] | None,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    builder = x509.CertificateBuilder(issuer, subject, public, x509.random_serial_number(), now - day, now + day)
    builder = builder.add_extension(x509.BasicConstraints(ca=names is None, path_length=None), critical=True)
    if names is not None:
        found = [
            x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name) for name in names
        ]
        builder = builder.add_extension(x509.SubjectAlternativeName(found), critical=False)
    return builder.sign(key, hashes.SHA256())


def _people() -> str:
    people = [
        ("uid=amartin", "people", "amartin"), ("uid=bjones", "people", "bjones"), ("uid=cdiaz", "people", "cdiaz"),
        ("uid=twin", "people", "twin"), ("uid=twin", "guests", "twin"),
        ("cn=odd\\2C \\28name\\29*", "people", "o*(d)d"),
    ]  # fmt: skip
    groups = {
        "readers": ["uid=amartin,ou=people", "cn=odd\\2C \\28name\\29*,ou=people", "uid=twin,ou=people"],
        "chiefs": ["uid=bjones,ou=people", "uid=amartin,ou=people"],
        "cooks": ["uid=cdiaz,ou=people"],
    }
    text = _ENTRIES.format(service=SERVICE_DN, service_password=SERVICE_PASSWORD)
    for rdn, unit, name in people:
        # the overlay memberof does the same, but not for entries that slapadd brings
        of = "\n".join(
            f"memberOf: cn={group},{_GROUPS}" for group, all_ in groups.items() if f"{rdn},ou={unit}" in all_
        )
        text += _PERSON.format(rdn=rdn, unit=unit, name=name, password=PASSWORD, groups=of).rstrip() + "\n"
    for group, members in groups.items():
        listed = "\n".join(f"member: {each},dc=example,dc=org" for each in members)
        text += _GROUP.format(name=group, members=listed)
    text += "\ndn: cn=seniors,ou=groups,dc=example,dc=org\nobjectClass: posixGroup\ngidNumber: 1\nmemberUid: cdiaz\n"
    return text


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(200):
        assert process.poll() is None, log.read_text()
        with socket.socket() as connecting:
            if connecting.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(log.read_text())
