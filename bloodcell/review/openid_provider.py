"""The site's OpenID provider: what it says of itself, its keys, and the few requests that a log-in makes to it.

Only addresses that the provider names in its own description are asked, by TLS, with time-outs and limits on size;
no redirect is followed.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bloodcell.desk_settings import Role, is_this_machine
from bloodcell.errors import ConfigurationError, DirectoryUnavailableError, LoginRefusedError, SettingError

if TYPE_CHECKING:
    import httpx
    from joserfc.jwk import Key, KeySet

    from bloodcell.desk_settings import DeskSettings

CALLBACK_PATH: Final = "/login/oidc"
"""Where the provider sends people back to; with the desk's address before it, this is the redirect URI."""

ALGORITHMS: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"}
)
"""Signatures that are accepted: those that only the provider can make. With HS256, who knows the secret could."""

_PATIENCE_S: Final = 10.0
_MAX_BYTES: Final = 1_000_000
_DESCRIPTION_VALID_S: Final = 3_600.0
_KEYS_AT_MOST_EVERY_S: Final = 30.0
"""A token with an unknown key makes the keys be read again, but not each time that somebody sends such a token."""


@dataclass(frozen=True, slots=True)
class ProviderDescription:
    """What the provider says of itself (OpenID Connect Discovery 1.0).

    Attributes:
        authorization_endpoint: Where people log in.
        token_endpoint: Where the desk exchanges a code for tokens.
        jwks_uri: Where the provider's keys are.
        userinfo_endpoint: Where more claims are; None if there are none.
        end_session_endpoint: Where people log out of the provider; None if they cannot.
        algorithms: Signatures of ID tokens that the desk accepts and the provider may use.
        sends_issuer: Whether every answer names its issuer (RFC 9207).
        has_groups_scope: Whether groups have to be asked for by the scope `groups`.
        takes_basic: Whether the desk authenticates itself in the header, and not in the body.
    """

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None
    end_session_endpoint: str | None
    algorithms: frozenset[str]
    sends_issuer: bool
    has_groups_scope: bool
    takes_basic: bool


class OpenIdProvider:
    """The OpenID provider of the settings, whose description and keys are kept for a while.

    Args:
        settings: The settings of the desk.

    Raises:
        SettingError: A setting that the log-in needs is missing.
    """

    def __init__(self, settings: DeskSettings) -> None:
        issuer, client_id = settings.desk_oidc_issuer, settings.desk_oidc_client_id
        secret = settings.desk_oidc_client_secret
        needed = {
            "BLOODCELL_DESK_OIDC_ISSUER": issuer,
            "BLOODCELL_DESK_OIDC_CLIENT_ID": client_id,
            "BLOODCELL_DESK_OIDC_CLIENT_SECRET": secret,
            "BLOODCELL_DESK_GROUPS": settings.desk_groups.strip(),
            "BLOODCELL_DESK_PUBLIC_URL": settings.desk_public_url or is_this_machine(settings.desk_url),
        }
        missing = [name for name, value in needed.items() if not value]
        if missing or issuer is None or client_id is None or secret is None:
            raise SettingError(f"BLOODCELL_DESK_LOGIN is oidc, which also needs {' and '.join(missing)}.")
        self.issuer: Final = issuer
        self.client_id: Final = client_id
        self.client_secret: Final = secret.get_secret_value()
        self.redirect_uri: Final = settings.desk_origin + CALLBACK_PATH
        self.home: Final = settings.desk_origin + "/"
        self.name_claim: Final = settings.desk_oidc_name_claim
        self.groups_claim: Final = settings.desk_oidc_groups_claim
        self.roles_by_group: Final[dict[str, frozenset[Role]]] = settings.roles_by_group
        try:
            self._tls: Final = ssl.create_default_context(cafile=settings.desk_ca_file)
        except (OSError, ssl.SSLError) as error:
            raise SettingError(f"BLOODCELL_DESK_CA_FILE: {settings.desk_ca_file} cannot be used: {error}.") from error
        self._lock: Final = threading.Lock()
        self._description: tuple[float, ProviderDescription] | None = None
        self._keys: tuple[float, KeySet] | None = None

    def description(self) -> ProviderDescription:
        """Returns what the provider says of itself; it is read again after an hour.

        Raises:
            ConfigurationError: It names another issuer, or is not one that the desk can use.
            DirectoryUnavailableError: It cannot be reached.
        """
        with self._lock:
            now = time.monotonic()
            if self._description is None or now - self._description[0] > _DESCRIPTION_VALID_S:
                url = f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"
                self._description = (now, self._described(self._get(url)))
            return self._description[1]

    def keys(self, *, again: bool = False) -> KeySet:
        """Returns the provider's public keys.

        Args:
            again: Whether to read them again, because a token names a key that is not among them.

        Raises:
            DirectoryUnavailableError: They cannot be read.
        """
        from joserfc.jwk import KeySet

        uri = self.description().jwks_uri
        with self._lock:
            now = time.monotonic()
            valid_s = _KEYS_AT_MOST_EVERY_S if again else _DESCRIPTION_VALID_S
            if self._keys is None or now - self._keys[0] > valid_s:
                found = _public_keys(self._get(uri))
                if not found:
                    raise DirectoryUnavailableError(f"The OpenID provider {self.issuer} gave no key that can be used.")
                self._keys = (now, KeySet(found))
            return self._keys[1]

    def exchange(self, code: str, verifier: str) -> dict[str, Any]:
        """Returns the provider's tokens for the code that a person came back with.

        Args:
            code: The code.
            verifier: The secret whose digest was sent with the person (PKCE, RFC 7636).

        Raises:
            ConfigurationError: The provider refuses the desk itself.
            DirectoryUnavailableError: It cannot be reached.
            LoginRefusedError: It refuses the code.
        """
        from urllib.parse import quote

        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "code_verifier": verifier,
        }
        auth: tuple[str, str] | None = None
        if self.description().takes_basic:
            auth = (quote(self.client_id, safe=""), quote(self.client_secret, safe=""))  # RFC 6749, 2.3.1
        else:
            form |= {"client_id": self.client_id, "client_secret": self.client_secret}
        status, body = self._request("POST", self.description().token_endpoint, data=form, auth=auth)
        error = str(body.get("error", ""))
        if status == 401 or error in ("invalid_client", "unauthorized_client"):
            raise ConfigurationError(
                f"The OpenID provider {self.issuer} refuses the desk itself ({error or status}). Check "
                "BLOODCELL_DESK_OIDC_CLIENT_ID and BLOODCELL_DESK_OIDC_CLIENT_SECRET."
            )
        if 400 <= status < 500:
            raise LoginRefusedError(f"The OpenID provider refused the log-in ({error or status}). Log in again.")
        self._expect_success(status, self.description().token_endpoint)
        return body

    def userinfo(self, access_token: str) -> dict[str, Any]:
        """Returns the claims that the provider gives beside the ID token; none if it has no place for them.

        Args:
            access_token: The token that the provider gave together with the ID token.

        Raises:
            DirectoryUnavailableError: They cannot be read.
        """
        endpoint = self.description().userinfo_endpoint
        if endpoint is None:
            return {}
        status, body = self._request("GET", endpoint, headers={"Authorization": f"Bearer {access_token}"})
        self._expect_success(status, endpoint)
        return body

    def _described(self, found: dict[str, Any]) -> ProviderDescription:
        if found.get("issuer") != self.issuer:
            raise ConfigurationError(
                f"BLOODCELL_DESK_OIDC_ISSUER is {self.issuer}, but the provider there names itself "
                f"{found.get('issuer')!r}. Set it exactly so, if that is your provider."
            )
        supported = found.get("id_token_signing_alg_values_supported") or ["RS256"]
        algorithms = ALGORITHMS.intersection(supported)
        methods = found.get("code_challenge_methods_supported")
        if not algorithms or (methods is not None and "S256" not in methods):
            raise ConfigurationError(
                f"The OpenID provider {self.issuer} cannot be used: it needs PKCE with S256 (it has {methods}), and "
                f"one of the signatures {', '.join(sorted(ALGORITHMS))} (it has {supported})."
            )
        return ProviderDescription(
            authorization_endpoint=self._endpoint(found, "authorization_endpoint"),
            token_endpoint=self._endpoint(found, "token_endpoint"),
            jwks_uri=self._endpoint(found, "jwks_uri"),
            userinfo_endpoint=self._endpoint(found, "userinfo_endpoint") if "userinfo_endpoint" in found else None,
            end_session_endpoint=(
                self._endpoint(found, "end_session_endpoint") if "end_session_endpoint" in found else None
            ),
            algorithms=algorithms,
            sends_issuer=found.get("authorization_response_iss_parameter_supported") is True,
            has_groups_scope="groups" in (found.get("scopes_supported") or ()),
            takes_basic="client_secret_basic"
            in (found.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]),
        )

    def _endpoint(self, found: dict[str, Any], name: str) -> str:
        url = found.get(name)
        if isinstance(url, str) and (
            url.startswith("https://") or (is_this_machine(self.issuer) and is_this_machine(url))
        ):
            return url
        raise ConfigurationError(f"The OpenID provider {self.issuer} names no https address as {name}: {url!r}.")

    def _get(self, url: str) -> dict[str, Any]:
        status, body = self._request("GET", url)
        self._expect_success(status, url)
        return body

    def _expect_success(self, status: int, url: str) -> None:
        if status != 200:
            raise DirectoryUnavailableError(f"The OpenID provider answered {url} with status {status}.")

    def _request(self, method: str, url: str, **options: Any) -> tuple[int, dict[str, Any]]:
        """Returns the status and the JSON object of an answer; an answer that is no JSON object is an empty one."""
        import httpx

        give_up_at = time.monotonic() + _PATIENCE_S
        body = bytearray()
        try:
            with (
                httpx.Client(verify=self._tls, timeout=_PATIENCE_S / 2, follow_redirects=False) as client,
                client.stream(method, url, **options) as response,
            ):
                for part in response.iter_bytes():
                    body += part
                    if len(body) > _MAX_BYTES or time.monotonic() > give_up_at:
                        raise DirectoryUnavailableError(f"The answer of the OpenID provider to {url} does not end.")
                return response.status_code, _json_object(response, bytes(body))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # the text of the error has the address, and no header and no body
            raise DirectoryUnavailableError(
                f"The OpenID provider {self.issuer} cannot be reached ({type(error).__name__}: {error}). Try again "
                "later."
            ) from None


def _public_keys(found: dict[str, Any]) -> list[Key]:
    """Returns the keys that sign; a secret (kty oct) or a key of a kind that this release does not know is none."""
    from joserfc.errors import JoseError
    from joserfc.jwk import import_key

    keys: list[Key] = []
    for each in found.get("keys") or ():
        if isinstance(each, dict) and each.get("kty") in ("RSA", "EC", "OKP") and each.get("use") != "enc":
            with suppress(JoseError, ValueError, KeyError):
                keys.append(import_key(each))
    return keys


def _json_object(response: httpx.Response, body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        return found
    if response.status_code == 200:
        raise DirectoryUnavailableError(f"The OpenID provider's answer to {response.request.url} is no JSON object.")
    return {}
