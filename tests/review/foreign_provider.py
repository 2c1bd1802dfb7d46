"""OpenID providers at the other end: a certified one (oidc-provider, in Node), and one that lies.

Neither has anything in common with the libraries that bloodcell uses: the liar signs its tokens with `cryptography`
alone.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.serving import serving

FOLDER = Path(__file__).with_name("openid")
SECRET = "a secret: with / signs"  # noqa: S105
REDIRECT_URI = "http://127.0.0.1:8090/login/oidc"


@contextmanager
def certified_provider(port: int, key_id: str = "first", *, in_id_token: bool = False) -> Iterator[str]:
    """Yields the issuer of a running oidc-provider.

    Args:
        port: A free port.
        key_id: Name of its key, which is new at each start.
        in_id_token: Whether name and groups are in the ID token; otherwise they have to be asked for.
    """
    node = shutil.which("node")
    if node is None or not (FOLDER / "node_modules").is_dir():
        pytest.skip("needs Node and `npm ci` in tests/review/openid")
    command = [node, str(FOLDER / "provider.mjs"), str(port), REDIRECT_URI, key_id, "yes" if in_id_token else "no"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            while (line := process.stdout.readline()).strip() != "ready":
                assert line, "oidc-provider ended"
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def free_port() -> int:
    """Returns a port that nobody listens on at the moment."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


class Browser:
    """A person with a browser that keeps the provider's cookies."""

    def __init__(self) -> None:
        self._cookies = httpx.Cookies()
        self.forms: list[str] = []
        """The forms that were shown: login, consent."""

    def follow(self, url: str, login: str) -> dict[str, str]:
        """Goes where the desk sends the person, logs in where asked; returns the parameters of the way back."""
        with httpx.Client(cookies=self._cookies) as client:
            found = self._follow(client, url, login)
            self._cookies = client.cookies
        return found

    def _follow(self, client: httpx.Client, url: str, login: str) -> dict[str, str]:
        answer = client.get(url)
        for _ in range(15):
            if answer.next_request is not None:
                url = str(answer.next_request.url)
                if url.startswith(REDIRECT_URI):
                    return dict(parse_qsl(urlsplit(url).query))
                answer = client.get(url)
            else:
                action = re.search(r'<form[^>]* action="([^"]+)"', answer.text)
                prompt = re.search(r'name="prompt" value="(\w+)"', answer.text)
                assert action and prompt, answer.text
                self.forms.append(prompt[1])
                sent = {"prompt": prompt[1], "login": login, "password": "any"}
                answer = client.post(action[1], data=sent)
        raise AssertionError("the provider sends the person round and round")


def encoded(value: bytes | dict[str, Any]) -> str:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(body).rstrip(b"=").decode()


class LyingProvider:
    """An OpenID provider that answers whatever a test sets.

    Attributes:
        description: What replaces parts of its description; None removes one.
        claims: What replaces claims of the ID token; None removes one.
        header: What replaces parts of the token's header.
        make: Makes the token from header and claims; by default, signed with RS256.
        userinfo: The claims of the userinfo endpoint.
        token_status: Status of the token endpoint.
        token_body: What it answers besides; None: a token.
        asked: The paths that were asked for.
    """

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.key_id = "k1"
        self.description: dict[str, Any] = {}
        self.claims: dict[str, Any] = {}
        self.header: dict[str, Any] = {}
        self.make: Callable[[dict[str, Any], dict[str, Any]], str] = self.signed
        self.userinfo: dict[str, Any] = {}
        self.token_status = 200
        self.token_body: dict[str, Any] | None = None
        self.nonce = ""
        self.asked: list[str] = []
        self.forms: list[dict[str, str]] = []
        self.issuer = ""

    def signed(self, header: dict[str, Any], claims: dict[str, Any]) -> str:
        text = f"{encoded(header)}.{encoded(claims)}"
        return f"{text}.{encoded(self.key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"

    def unsigned(self, header: dict[str, Any], claims: dict[str, Any]) -> str:
        return f"{encoded(header | {'alg': 'none'})}.{encoded(claims)}."

    def signed_with_public_key(self, header: dict[str, Any], claims: dict[str, Any]) -> str:
        """The classic: the public key is taken for the secret of HS256."""
        pem = self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return self._by_secret(pem, header, claims)

    def signed_with_client_secret(self, header: dict[str, Any], claims: dict[str, Any]) -> str:
        return self._by_secret(SECRET.encode(), header, claims)

    def id_token(self) -> str:
        now = int(time.time())
        claims = {
            "iss": self.issuer, "sub": "248289761001", "aud": "desk", "exp": now + 300, "iat": now, "nonce": self.nonce,
            "preferred_username": "amartin", "groups": ["readers"],
        } | self.claims  # fmt: skip
        header = {"alg": "RS256", "kid": self.key_id, "typ": "JWT"} | self.header
        return self.make(
            {name: value for name, value in header.items() if value is not None},
            {name: value for name, value in claims.items() if value is not None},
        )

    def answer(self, path: str) -> tuple[int, bytes]:
        """Returns status and body for a path."""
        if path == "/.well-known/openid-configuration":
            found: dict[str, Any] = {
                "issuer": self.issuer, "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token", "jwks_uri": f"{self.issuer}/keys",
                "userinfo_endpoint": f"{self.issuer}/userinfo",
                "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"],
            } | self.description  # fmt: skip
            return 200, json.dumps({name: value for name, value in found.items() if value is not None}).encode()
        if path == "/keys":
            numbers = self.key.public_key().public_numbers()
            key = {
                "kty": "RSA",
                "kid": self.key_id,
                "use": "sig",
                "e": "AQAB",
                "n": encoded(numbers.n.to_bytes(256, "big")),
            }
            secret = {"kty": "oct", "kid": "secret", "k": encoded(b"known to everybody, as it is in the list of keys")}
            return 200, json.dumps({"keys": [key, secret, {"kty": "new"}, "nonsense"]}).encode()
        if path == "/token":
            body = {"access_token": "at", "token_type": "Bearer", "id_token": self.id_token()}
            return self.token_status, json.dumps(body if self.token_body is None else self.token_body).encode()
        if path == "/userinfo":
            return 200, json.dumps(self.userinfo).encode()
        if path == "/endless":
            return 200, b"x" * 2_000_000
        return 404, b""

    @staticmethod
    def _by_secret(secret: bytes, header: dict[str, Any], claims: dict[str, Any]) -> str:
        text = f"{encoded(header | {'alg': 'HS256'})}.{encoded(claims)}"
        return f"{text}.{encoded(hmac.digest(secret, text.encode(), hashlib.sha256))}"


@contextmanager
def lying_provider() -> Iterator[LyingProvider]:
    """Yields a provider that listens on a free port of this machine."""
    provider = LyingProvider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            provider.asked.append(self.path)
            if self.path == "/elsewhere":
                self.send_response(302)
                self.send_header("Location", f"{provider.issuer}/keys")
                self.end_headers()
                return
            status, body = provider.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            provider.forms.append(dict(parse_qsl(body)) | {"authorization": self.headers.get("Authorization", "")})
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.issuer = f"http://127.0.0.1:{server.server_port}"
    with serving(server):
        yield provider
