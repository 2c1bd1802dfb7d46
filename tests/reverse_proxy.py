"""The documented nginx in front of an API server of this machine, on free ports and with a certificate of its own."""

from __future__ import annotations

import datetime
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

NAME = "bloodcell.example.org"
HOST = "127.0.0.1"

_MAIN = """
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
        certificate: Its certificate, which signs itself.
    """

    port: int
    plain_port: int
    certificate: Path

    def client(self, address: str, forwarded_for: str | None = None) -> httpx.Client:
        """Returns a client whose machine has an address, e.g. 127.0.0.2, and who may claim to come from another one."""
        trust = ssl.create_default_context(cafile=str(self.certificate))
        trust.check_hostname = False  # the name of the certificate is not in this machine's DNS
        headers = {"X-Forwarded-For": forwarded_for} if forwarded_for else {}
        transport = httpx.HTTPTransport(local_address=address, verify=trust)
        return httpx.Client(base_url=f"https://{HOST}:{self.port}", transport=transport, headers=headers, timeout=60)


def nginx() -> str | None:
    """Returns the program, if it is installed."""
    return shutil.which("nginx", path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin")


@contextmanager
def reverse_proxy(folder: Path, server: str, port: int, plain_port: int) -> Iterator[Proxy]:
    """Yields the nginx of docker/nginx.conf once it answers; it is ended afterwards.

    Args:
        folder: An empty folder.
        server: Address of the API server.
        port: Unused port for TLS.
        plain_port: Unused port for HTTP.
    """
    program = nginx()
    assert program
    certificate = _make_certificate(folder)
    site = (ROOT / "docker" / "nginx.conf").read_text()
    for theirs, ours in {
        "listen 443": f"listen {HOST}:{port}",
        "listen 80;": f"listen {HOST}:{plain_port};",
        "127.0.0.1:8080": urlsplit(server).netloc,
        "/etc/ssl/certs/bloodcell.pem": str(certificate),
        "/etc/ssl/private/bloodcell.key": str(folder / "key.pem"),
    }.items():
        assert site.count(theirs) == 1 or theirs == "127.0.0.1:8080", theirs
        site = site.replace(theirs, ours)
    (folder / "site.conf").write_text(site)
    (folder / "nginx.conf").write_text(_MAIN.format(folder=folder))
    process = subprocess.Popen([program, "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")])
    try:
        proxy = Proxy(port, plain_port, certificate)
        deadline = time.monotonic() + 20
        while not _answers(proxy):
            assert process.poll() is None, (folder / "error.log").read_text()
            assert time.monotonic() < deadline, (folder / "error.log").read_text()
            time.sleep(0.1)
        yield proxy
    finally:
        process.terminate()
        process.wait(20)


def _answers(proxy: Proxy) -> bool:
    try:
        with proxy.client(HOST) as client:
            return client.get("/api/v2/version").is_success
    except httpx.TransportError:
        return False


def _make_certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
    made = made.not_valid_after(now + datetime.timedelta(days=1))
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / "key.pem").write_bytes(private)
    certificate = folder / "certificate.pem"
    certificate.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return certificate
