"""Log-in by an OpenID provider: the authorisation code flow with PKCE, and the same again before a signature.

`start` returns the address to send the person to, and what `finish` has to know when the person comes back. The desk
keeps that in a cookie of the person's browser (`seal`, `unseal`): several processes of the desk need no common memory
for it, and somebody who only begins log-ins uses up nothing. The cookie is encrypted with a key made of the client
secret, is valid for ten minutes, and has to be SameSite=Lax: a Strict one would not come back from the provider.

Sources: OpenID Connect Core 1.0, 3.1; RFC 9700 (security of OAuth 2.0); RFC 7636 (PKCE); RFC 9207 (issuer).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from bloodcell.errors import LoginRefusedError, NameRefusedError
from bloodcell.review.people import Person, person_name, roles_of
from bloodcell.visible_text import visible_line

if TYPE_CHECKING:
    from bloodcell.review.openid_provider import OpenIdProvider

PENDING_COOKIE: Final = "__Host-bloodcell-login"
PENDING_VALID_S: Final = 600

_CLOCKS_DIFFER_S: Final = 30
_LOGGED_IN_BEFORE_S: Final = 10
"""How long before the desk asked for it a new log-in may seem to be, because clocks differ."""
_AGAIN: Final = "Log in again."


@dataclass(frozen=True, slots=True)
class PendingLogin:
    """What has to be known of a log-in that has begun.

    Attributes:
        state: Ties the answer to this browser.
        nonce: Ties the ID token to this log-in.
        verifier: Proves that the code was asked for by this log-in (PKCE).
        started_at: When it began, in seconds since 1970.
        subject: Who has to log in again before a signature; None for a first log-in.
        return_to: Page of the desk on which the person goes on.
    """

    state: str
    nonce: str
    verifier: str = field(repr=False)
    started_at: int
    subject: str | None
    return_to: str


@dataclass(frozen=True, slots=True)
class OpenIdLogin:
    """A person whom the OpenID provider has authenticated.

    Attributes:
        person: Name and roles.
        subject: The provider's own name of the person, which it never gives to another; `start` needs it again.
        id_token: What a log-out at the provider needs (`logout_url`).
        return_to: Page of the desk on which the person goes on.
    """

    person: Person
    subject: str
    id_token: str = field(repr=False)
    return_to: str


def start(provider: OpenIdProvider, *, again_as: str | None = None, return_to: str = "/") -> tuple[str, PendingLogin]:
    """Returns the address at which a person logs in, and what `finish` needs.

    Args:
        provider: The OpenID provider.
        again_as: Subject of the person who has to log in again, by password, whatever session the provider has; None
            for a first log-in.
        return_to: Page of the desk on which the person goes on.

    Raises:
        ConfigurationError: The provider cannot be used as it is.
        DirectoryUnavailableError: The provider cannot be reached.
    """
    from authlib.oauth2.rfc7636 import create_s256_code_challenge

    pending = PendingLogin(
        secrets.token_urlsafe(32),
        secrets.token_urlsafe(32),
        secrets.token_urlsafe(48),
        int(time.time()),
        again_as,
        return_to,
    )
    description = provider.description()
    query = {
        "response_type": "code",
        "client_id": provider.client_id,
        "redirect_uri": provider.redirect_uri,
        "scope": "openid profile groups" if description.has_groups_scope else "openid profile",
        "state": pending.state,
        "nonce": pending.nonce,
        "code_challenge": create_s256_code_challenge(pending.verifier),
        "code_challenge_method": "S256",
    }
    if again_as is not None:
        query |= {"prompt": "login", "max_age": "0"}
    return _with_query(description.authorization_endpoint, query), pending


def finish(provider: OpenIdProvider, pending: PendingLogin, query: Mapping[str, str]) -> OpenIdLogin:
    """Returns the person who came back from the provider.

    Args:
        provider: The OpenID provider.
        pending: What `start` returned, from this person's browser.
        query: The parameters with which the person came back.

    Raises:
        ConfigurationError: The provider refuses the desk itself.
        DirectoryUnavailableError: The provider cannot be reached.
        LoginRefusedError: The answer is not that of this log-in, or the person has no role.
    """
    code = _code_of(provider, pending, query)
    tokens = provider.exchange(code, pending.verifier)
    id_token, access_token = tokens.get("id_token"), tokens.get("access_token")
    if not isinstance(id_token, str):
        raise LoginRefusedError(f"The OpenID provider sent no ID token. {_AGAIN}")
    claims = _claims(provider, pending, id_token, access_token if isinstance(access_token, str) else None)
    subject = claims["sub"]
    if pending.subject is not None:
        _expect_new_login(pending, claims)
    if not {provider.name_claim, provider.groups_claim} <= claims.keys() and isinstance(access_token, str):
        more = provider.userinfo(access_token)
        if more and more.get("sub") != subject:  # OpenID Connect Core 1.0, 5.3.2
            raise LoginRefusedError(f"The OpenID provider sent another person's claims. {_AGAIN}")
        claims = more | claims
    return OpenIdLogin(_person(provider, claims), subject, id_token, pending.return_to)


def logout_url(provider: OpenIdProvider, id_token: str) -> str | None:
    """Returns the address that also ends the person's session at the provider; None if the provider has none.

    Args:
        provider: The OpenID provider.
        id_token: The ID token of the person's log-in.

    Raises:
        ConfigurationError: The provider cannot be used as it is.
        DirectoryUnavailableError: The provider cannot be reached.
    """
    endpoint = provider.description().end_session_endpoint
    if endpoint is None:
        return None
    query = {
        "id_token_hint": id_token,
        "client_id": provider.client_id,
        "post_logout_redirect_uri": provider.home,
    }
    return _with_query(endpoint, query)


def seal(provider: OpenIdProvider, pending: PendingLogin) -> str:
    """Returns the value of the cookie `PENDING_COOKIE`: HttpOnly, Secure, SameSite=Lax, path /, for `PENDING_VALID_S`.

    Args:
        provider: The OpenID provider.
        pending: What `start` returned.
    """
    from cryptography.fernet import Fernet

    return Fernet(_cookie_key(provider)).encrypt(json.dumps(asdict(pending)).encode()).decode()


def unseal(provider: OpenIdProvider, cookie: str) -> PendingLogin:
    """Returns what `seal` has sealed.

    Args:
        provider: The OpenID provider.
        cookie: The value of the cookie.

    Raises:
        LoginRefusedError: The desk has not made it, or made it more than ten minutes ago.
    """
    from cryptography.fernet import Fernet, InvalidToken

    try:
        return PendingLogin(**json.loads(Fernet(_cookie_key(provider)).decrypt(cookie.encode(), ttl=PENDING_VALID_S)))
    except (InvalidToken, ValueError, TypeError):
        raise LoginRefusedError(
            f"The log-in took longer than ten minutes, or began in another browser. {_AGAIN}"
        ) from None


def _code_of(provider: OpenIdProvider, pending: PendingLogin, query: Mapping[str, str]) -> str:
    """Returns the code of the answer, if it is the answer of this provider to this log-in."""
    if time.time() - pending.started_at > PENDING_VALID_S:
        raise LoginRefusedError(f"The log-in took longer than ten minutes. {_AGAIN}")
    if not hmac.compare_digest(query.get("state", "").encode(), pending.state.encode()):
        raise LoginRefusedError(f"The answer belongs to another log-in. {_AGAIN}")
    issuer = query.get("iss")
    if issuer != provider.issuer and (issuer is not None or provider.description().sends_issuer):
        raise LoginRefusedError(f"The answer does not come from the OpenID provider of this desk. {_AGAIN}")
    if "error" in query:
        raise LoginRefusedError(
            f"The OpenID provider refused the log-in ({visible_line(query['error'])[:100]}). {_AGAIN}"
        )
    if not query.get("code"):
        raise LoginRefusedError(f"The OpenID provider sent no code. {_AGAIN}")
    return query["code"]


def _claims(provider: OpenIdProvider, pending: PendingLogin, id_token: str, access_token: str | None) -> dict[str, Any]:
    """Returns the claims of an ID token that the provider signed for this log-in."""
    from authlib.oidc.core import CodeIDToken
    from joserfc import jwt
    from joserfc.errors import InvalidKeyIdError, JoseError
    from joserfc.jws import JWSRegistry

    registry = JWSRegistry(algorithms=provider.description().algorithms, strict_check_header=False)
    try:
        try:
            token = jwt.decode(id_token, provider.keys(), registry=registry)
        except InvalidKeyIdError:  # the provider has new keys
            token = jwt.decode(id_token, provider.keys(again=True), registry=registry)
        CodeIDToken(
            token.claims,
            token.header,
            {
                "iss": {"essential": True, "value": provider.issuer},
                "aud": {"essential": True, "value": provider.client_id},
            },
            {"nonce": pending.nonce, "client_id": provider.client_id, "access_token": access_token},
        ).validate(leeway=_CLOCKS_DIFFER_S)
    except (JoseError, ValueError, TypeError) as error:
        raise LoginRefusedError(
            f"The ID token of the OpenID provider is not valid ({visible_line(error)[:200]}). {_AGAIN}"
        ) from None
    subject = token.claims["sub"]
    if not isinstance(subject, str) or not subject:
        raise LoginRefusedError(f"The ID token of the OpenID provider names nobody. {_AGAIN}")
    return dict(token.claims)


def _expect_new_login(pending: PendingLogin, claims: Mapping[str, Any]) -> None:
    """Refuses a signature's log-in that was another person's, or is an earlier one that the provider shows again."""
    if claims["sub"] != pending.subject:
        raise LoginRefusedError("Another person has logged in. Only the person who is logged in to the desk can sign.")
    at = claims.get("auth_time")
    if isinstance(at, bool) or not isinstance(at, int | float) or at < pending.started_at - _LOGGED_IN_BEFORE_S:
        raise LoginRefusedError(
            "The OpenID provider did not ask for the password again, so nothing is signed. It has to support "
            "`prompt=login` and send `auth_time`."
        )


def _person(provider: OpenIdProvider, claims: Mapping[str, Any]) -> Person:
    name, groups = claims.get(provider.name_claim), claims.get(provider.groups_claim)
    if not isinstance(name, str):
        raise LoginRefusedError(
            f"The OpenID provider sent no name of the person (claim {provider.name_claim}, "
            "BLOODCELL_DESK_OIDC_NAME_CLAIM)."
        )
    listed = [groups] if isinstance(groups, str) else groups if isinstance(groups, list) else []
    roles = roles_of((group for group in listed if isinstance(group, str)), provider.roles_by_group)
    try:
        name = person_name(name)
    except NameRefusedError as error:
        raise LoginRefusedError(f"The name that the OpenID provider sent cannot be used. {error}") from None
    if not roles:
        raise LoginRefusedError(
            f"{name} has no role at the desk: no group in the claim {provider.groups_claim} is in "
            "BLOODCELL_DESK_GROUPS."
        )
    return Person(name, roles)


def _cookie_key(provider: OpenIdProvider) -> bytes:
    digest = hmac.digest(provider.client_secret.encode(), b"bloodcell: a log-in that has begun", hashlib.sha256)
    return base64.urlsafe_b64encode(digest)


def _with_query(url: str, query: Mapping[str, str]) -> str:
    return f"{url}{'&' if '?' in url else '?'}{urlencode(query)}"
