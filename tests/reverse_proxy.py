"""The documented nginx in front of servers of this machine, on free ports and with a certificate of its own."""

from __future__ import annotations

import datetime
import os
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.conftest import ROOT

NAME, DESK_NAME = "bloodcell.example.org", "desk.example.org"
HOST = "127.0.0.1"
_UPSTREAMS = {NAME: f"{HOST}:8080", DESK_NAME: f"{HOST}:8090"}
"""Where docker/nginx.conf expects the servers."""

# its workers write large bodies to the folder, which only the user of the tests may enter
_MAIN = """
{user}
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


@dataclass(frozen=True)
class Proxy:
    """A running nginx.

    Attributes:
        port: Where it speaks TLS.
        plain_port: Where it speaks HTTP.
        authority: Certificate of the authority that signed its own.
        address: The machine's address on which it listens.
    """

    port: int
    plain_port: int
    authority: Path
    address: str = HOST

    def client(self, address: str = HOST, forwarded_for: str | None = None, name: str = NAME) -> httpx.Client:
        """Returns a client whose machine has an address, e.g. 127.0.0.2, and who may claim to come from another one.

        Args:
            address: The client's address.
            forwarded_for: What it claims.
            name: The site that it asks for.
        """
        headers = {"X-Forwarded-For": forwarded_for} if forwarded_for else {}
        transport = _ToTheProxy(self, address)
        return httpx.Client(base_url=self.url(name), transport=transport, headers=headers, timeout=60)

    def url(self, name: str) -> str:
        """Returns the address of a site, which is not in this machine's DNS."""
        return f"https://{name}:{self.port}" if self.port != 443 else f"https://{name}"


class _ToTheProxy(httpx.HTTPTransport):
    """Connects to the proxy whatever the name, and checks its certificate against the name."""

    def __init__(self, proxy: Proxy, local_address: str) -> None:
        trust = ssl.create_default_context(cafile=str(proxy.authority))
        super().__init__(local_address=local_address, verify=trust)
        self._proxy = proxy

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        request.extensions = {"sni_hostname": url.host, **request.extensions}
        request.url = url.copy_with(host=self._proxy.address)
        try:
            return super().handle_request(request)
        finally:
            request.url = url  # cookies belong to the name


def nginx() -> str | None:
    """Returns the program, if it is installed."""
    return shutil.which("nginx", path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin")


@contextmanager
def reverse_proxy(
    folder: Path,
    port: int,
    plain_port: int,
    *,
    airflow: str | None = None,
    desk: str | None = None,
    address: str = HOST,
) -> Iterator[Proxy]:
    """Yields the nginx of docker/nginx.conf once it answers; it is ended afterwards.

    Args:
        folder: An empty folder.
        port: Unused port for TLS.
        plain_port: Unused port for HTTP.
        airflow: Address of the API server; None if there is none.
        desk: Address of the review desk; None if there is none.
        address: Where it listens.
    """
    program = nginx()
    assert program
    proxy = Proxy(port, plain_port, make_certificate(folder, (NAME, DESK_NAME)), address)
    site = (ROOT / "docker" / "nginx.conf").read_text()
    for theirs, ours in {
        "listen 443": f"listen {address}:{port}",
        "listen 80;": f"listen {address}:{plain_port};",
        "/etc/ssl/certs/bloodcell.pem": str(folder / "certificate.pem"),
        "/etc/ssl/private/bloodcell.key": str(folder / "key.pem"),
        _UPSTREAMS[NAME]: urlsplit(airflow).netloc if airflow else _UPSTREAMS[NAME],
        _UPSTREAMS[DESK_NAME]: urlsplit(desk).netloc if desk else _UPSTREAMS[DESK_NAME],
    }.items():
        assert theirs in site, theirs
        site = site.replace(theirs, ours)
    (folder / "site.conf").write_text(site)
    user = "" if os.geteuid() else "user root;"  # others cannot change it
    (folder / "nginx.conf").write_text(_MAIN.format(folder=folder, user=user))
    process = subprocess.Popen([program, "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")])
    try:
        deadline = time.monotonic() + 20
        for name in [NAME] * bool(airflow) + [DESK_NAME] * bool(desk):
            while not _answers(proxy, name):
                assert process.poll() is None, (folder / "error.log").read_text()
                assert time.monotonic() < deadline, (folder / "error.log").read_text()
                time.sleep(0.1)
        yield proxy
    finally:
        process.terminate()
        process.wait(20)


def _answers(proxy: Proxy, name: str) -> bool:
    try:
        with proxy.client(proxy.address, name=name) as client:
            return client.get("/").status_code < httpx.codes.INTERNAL_SERVER_ERROR
    except httpx.TransportError:
        return False


def make_certificate(folder: Path, names: tuple[str, ...]) -> Path:
    """Writes `key.pem` and `certificate.pem`, valid for the names, and returns the certificate of their authority."""
    plain = serialization.NoEncryption()
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = _named("bloodcell tests")
    authority = _certificate(issuer, authority_key.public_key(), issuer)
    authority = authority.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    made = _certificate(_named(names[0]), key.public_key(), issuer)
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / "key.pem").write_bytes(private)
    for name, certificate in {"authority.pem": authority, "certificate.pem": made}.items():
        signed = certificate.sign(authority_key, hashes.SHA256())
        (folder / name).write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    return folder / "authority.pem"


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _certificate(subject: x509.Name, key: ec.EllipticCurvePublicKey, issuer: x509.Name) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    made = made.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
    return made.not_valid_after(now + datetime.timedelta(days=1))
