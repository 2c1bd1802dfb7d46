"""Log-in by an OpenID provider: against a certified one, and against one that lies."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from bloodcell.errors import ConfigurationError, DirectoryUnavailableError, LoginRefusedError, SettingError
from bloodcell.review import openid_provider
from bloodcell.review.oidc_login import (
    PENDING_VALID_S,
    OpenIdLogin,
    PendingLogin,
    finish,
    logout_url,
    seal,
    start,
    unseal,
)
from bloodcell.review.openid_provider import OpenIdProvider
from bloodcell.review.people import Person
from bloodcell.settings import Settings
from tests.review.foreign_provider import (
    REDIRECT_URI,
    SECRET,
    Browser,
    LyingProvider,
    certified_provider,
    encoded,
    free_port,
    lying_provider,
)


def desk(issuer: str, **more: Any) -> OpenIdProvider:
    values: dict[str, Any] = {
        "desk_login": "oidc", "desk_oidc_issuer": issuer, "desk_oidc_client_id": "desk",
        "desk_oidc_client_secret": SECRET, "desk_groups": "readers=reader; chiefs=senior",
    }  # fmt: skip
    return OpenIdProvider(Settings(**values | more))


# against a certified provider


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    with certified_provider(free_port()) as found:
        yield found


@pytest.mark.parametrize("in_id_token", [True, False])
def test_a_person_logs_in_at_a_certified_provider(in_id_token: bool) -> None:
    with certified_provider(free_port(), in_id_token=in_id_token) as issuer:
        provider = desk(issuer)
        url, pending = start(provider, return_to="/slides/12")
        found = finish(provider, pending, Browser().follow(url, "am\u00e9lie+cooks+readers"))
        assert found.person == Person("am\u00e9lie", frozenset({"reader"}))
        assert (found.subject, found.return_to) == ("am\u00e9lie+cooks+readers", "/slides/12")


def test_a_code_works_once(issuer: str) -> None:
    provider = desk(issuer)
    url, pending = start(provider)
    query = Browser().follow(url, "amartin+readers")
    finish(provider, pending, query)
    with pytest.raises(LoginRefusedError, match="invalid_grant"):
        finish(provider, pending, query)


def test_a_code_that_another_log_in_asked_for_does_not_work(issuer: str) -> None:
    """PKCE: the attacker's code, brought to the browser of somebody else, needs the attacker's verifier."""
    provider = desk(issuer)
    url, _ = start(provider)
    stolen = Browser().follow(url, "mallory+chiefs")
    _, pending = start(provider)
    with pytest.raises(LoginRefusedError, match="invalid_grant"):
        finish(provider, pending, stolen | {"state": pending.state})


def test_a_person_without_a_group_of_the_desk_is_refused(issuer: str) -> None:
    provider = desk(issuer)
    for login in ("amartin+cooks", "amartin", "amartin+Readers"):
        url, pending = start(provider)
        with pytest.raises(LoginRefusedError, match="amartin has no role"):
            finish(provider, pending, Browser().follow(url, login))


def test_a_person_who_gives_up_is_told_so(issuer: str) -> None:
    provider = desk(issuer)
    _, pending = start(provider)
    with pytest.raises(LoginRefusedError, match="access_denied"):
        finish(provider, pending, {"state": pending.state, "iss": issuer, "error": "access_denied"})


def test_before_a_signature_the_provider_asks_again_and_only_the_same_person_counts(issuer: str) -> None:
    provider, browser = desk(issuer), Browser()
    url, pending = start(provider)
    first = finish(provider, pending, browser.follow(url, "amartin+readers"))
    assert browser.forms == ["login", "consent"]

    url, pending = start(provider)
    finish(provider, pending, browser.follow(url, "unused"))
    assert browser.forms == ["login", "consent"], "the session at the provider is enough to come back"

    url, pending = start(provider, again_as=first.subject)
    again = finish(provider, pending, browser.follow(url, "amartin+readers"))
    assert browser.forms[2] == "login" and again.person == first.person

    url, pending = start(provider, again_as=first.subject)
    with pytest.raises(LoginRefusedError, match="Another person"):
        finish(provider, pending, Browser().follow(url, "bjones+readers"))


def test_a_log_in_that_was_not_asked_again_signs_nothing(issuer: str) -> None:
    """The person takes `prompt=login` out of the address and is let in by the session at the provider."""
    provider, browser = desk(issuer), Browser()
    url, pending = start(provider)
    first = finish(provider, pending, browser.follow(url, "amartin+readers"))
    url, pending = start(provider, again_as=first.subject)
    assert "prompt=login" in url and "max_age=0" in url
    query = browser.follow(url.replace("&prompt=login&max_age=0", ""), "unused")
    with pytest.raises(LoginRefusedError, match="did not ask for the password again"):
        finish(provider, pending, query)


def test_a_provider_with_new_keys_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openid_provider, "_KEYS_AT_MOST_EVERY_S", -1.0)
    port, provider = free_port(), None
    for key_id in ("first", "second"):
        with certified_provider(port, key_id) as issuer:
            provider = provider or desk(issuer)
            url, pending = start(provider)
            assert finish(provider, pending, Browser().follow(url, "amartin+readers")).person.name == "amartin"


def test_logging_out_at_the_provider(issuer: str) -> None:
    import httpx

    provider, browser = desk(issuer), Browser()
    url, pending = start(provider)
    found = finish(provider, pending, browser.follow(url, "amartin+readers"))
    out = logout_url(provider, found.id_token)
    assert out is not None
    answer = httpx.get(out)
    assert answer.status_code == 200 and f"{issuer}/session/end/confirm" in answer.text


def test_a_wrong_client_secret_is_the_configurations_fault(issuer: str) -> None:
    provider = desk(issuer, desk_oidc_client_secret="wrong")
    url, pending = start(provider)
    query = Browser().follow(url, "amartin+readers")
    with pytest.raises(ConfigurationError, match="BLOODCELL_DESK_OIDC_CLIENT_SECRET") as caught:
        finish(provider, pending, query)
    assert "wrong" not in str(caught.value)


# against a provider that lies


@pytest.fixture
def liar() -> Iterator[LyingProvider]:
    with lying_provider() as provider:
        yield provider


def come_back(liar: LyingProvider, provider: OpenIdProvider | None = None, /, **query: str) -> OpenIdLogin:
    """Logs in at the lying provider, which sends the person back at once."""
    provider = provider or desk(liar.issuer)
    _, pending = start(provider)
    liar.nonce = pending.nonce
    return finish(provider, pending, {"state": pending.state, "code": "c"} | query)


def test_when_it_does_not_lie_it_is_believed(liar: LyingProvider) -> None:
    assert come_back(liar).person == Person("amartin", frozenset({"reader"}))
    assert "/userinfo" not in liar.asked
    assert liar.forms[0]["redirect_uri"] == REDIRECT_URI
    assert liar.forms[0]["authorization"].startswith("Basic ") and "client_secret" not in liar.forms[0]


@pytest.mark.parametrize("way", ["unsigned", "signed_with_public_key", "signed_with_client_secret"])
def test_tokens_that_others_could_have_made_are_refused(liar: LyingProvider, way: str) -> None:
    liar.make = getattr(liar, way)
    with pytest.raises(LoginRefusedError, match="not valid"):
        come_back(liar)


def test_a_secret_in_the_list_of_keys_signs_nothing(liar: LyingProvider) -> None:
    known = b"known to everybody, as it is in the list of keys"
    liar.header = {"kid": "secret"}
    liar.make = lambda header, claims: liar._by_secret(known, header, claims)
    with pytest.raises(LoginRefusedError, match="not valid"):
        come_back(liar)


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "of another log-in"}, {"nonce": None}, {"aud": "other"}, {"aud": ["desk", "other"]}, {"aud": None},
        {"aud": ["desk", "other"], "azp": "other"}, {"azp": "other"}, {"iss": "https://elsewhere.example.org"},
        {"iss": None}, {"exp": int(time.time()) - 60}, {"exp": None}, {"exp": "soon"}, {"iat": None},
        {"nbf": int(time.time()) + 3_600}, {"sub": None}, {"sub": ""}, {"sub": 7}, {"at_hash": "of another token"},
    ],
    ids=lambda claims: " ".join(claims),  # not the times: two processes of the tests would name them otherwise
)  # fmt: skip
def test_a_token_for_somebody_else_or_of_another_time_is_refused(liar: LyingProvider, claims: dict[str, Any]) -> None:
    liar.claims = claims
    with pytest.raises(LoginRefusedError):
        come_back(liar)


def test_a_token_for_several_is_believed_if_it_is_the_desks(liar: LyingProvider) -> None:
    liar.claims = {"aud": ["desk", "other"], "azp": "desk"}
    assert come_back(liar).person.name == "amartin"


@pytest.mark.parametrize(
    "header", [{"kid": "unknown"}, {"alg": "RS512"}, {"alg": None}, {"crit": ["b64"], "b64": False}]
)
def test_a_token_with_another_header_is_refused(liar: LyingProvider, header: dict[str, Any]) -> None:
    liar.header = header
    with pytest.raises(LoginRefusedError):
        come_back(liar)


@pytest.mark.parametrize("token", ["", "a.b", "a.b.c", "....", "{}", "x" * 500_000])
def test_what_is_no_token_is_refused(liar: LyingProvider, token: str) -> None:
    liar.make = lambda _, __: token
    with pytest.raises(LoginRefusedError):
        come_back(liar)


def test_a_changed_token_is_refused(liar: LyingProvider) -> None:
    def changed(header: dict[str, Any], claims: dict[str, Any]) -> str:
        start, _, end = liar.signed(header, claims).split(".")
        return f"{start}.{encoded(claims | {'groups': ['chiefs']})}.{end}"

    liar.make = changed
    with pytest.raises(LoginRefusedError, match="not valid"):
        come_back(liar)


def test_an_unknown_key_makes_the_keys_be_read_again_only_once_in_a_while(liar: LyingProvider) -> None:
    provider = desk(liar.issuer)
    liar.header = {"kid": "unknown"}
    for _ in range(5):
        with pytest.raises(LoginRefusedError):
            come_back(liar, provider)
    assert liar.asked.count("/keys") == 1


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ({"state": "of another log-in"}, "another log-in"), ({"state": ""}, "another log-in"),
        ({"state": "\u00e9"}, "another log-in"),
        ({"code": ""}, "no code"),
        ({"iss": "https://elsewhere.example.org"}, "not come from"), ({"iss": ""}, "not come"),
        ({"error": "login_required\u202e\n"}, r"login_required\\u202e"),
    ],
)  # fmt: skip
def test_an_answer_to_another_log_in_is_refused_before_the_provider_is_asked(
    liar: LyingProvider, query: dict[str, str], why: str
) -> None:
    with pytest.raises(LoginRefusedError, match=why):
        come_back(liar, None, **query)
    assert "/token" not in liar.asked


def test_a_provider_that_names_itself_in_every_answer_has_to(liar: LyingProvider) -> None:
    liar.description = {"authorization_response_iss_parameter_supported": True}
    with pytest.raises(LoginRefusedError, match="not come from"):
        come_back(liar)
    assert come_back(liar, iss=liar.issuer)


@pytest.mark.parametrize(
    "description",
    [
        {"issuer": "https://elsewhere.example.org"}, {"issuer": None}, {"token_endpoint": "http://elsewhere.example.org/token"},
        {"authorization_endpoint": "javascript:alert(1)"}, {"jwks_uri": None}, {"jwks_uri": "file:///etc/passwd"},
        {"userinfo_endpoint": 7}, {"id_token_signing_alg_values_supported": ["HS256", "none"]},
        {"code_challenge_methods_supported": ["plain"]},
    ],
    ids=str,
)  # fmt: skip
def test_a_provider_that_cannot_be_trusted_is_not_used(liar: LyingProvider, description: dict[str, Any]) -> None:
    liar.description = description
    with pytest.raises(ConfigurationError):
        come_back(liar)
    assert liar.forms == []


@pytest.mark.parametrize("path", ["elsewhere", "endless", "missing"])
def test_answers_that_do_not_end_or_point_elsewhere_are_not_followed(liar: LyingProvider, path: str) -> None:
    liar.description = {"jwks_uri": f"{liar.issuer}/{path}"}
    with pytest.raises(DirectoryUnavailableError):
        come_back(liar)
    assert "/keys" not in liar.asked


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, {"error": "invalid_grant"}, LoginRefusedError), (401, {}, ConfigurationError),
        (200, {}, LoginRefusedError), (400, {"error": "invalid_client"}, ConfigurationError),
        (503, {}, DirectoryUnavailableError), (302, {}, DirectoryUnavailableError),
        (200, {"id_token": 7}, LoginRefusedError),
    ],
)  # fmt: skip
def test_a_token_that_is_not_given(
    liar: LyingProvider, status: int, body: dict[str, Any], error: type[Exception]
) -> None:
    liar.token_status, liar.token_body = status, body
    with pytest.raises(error):
        come_back(liar)


def test_claims_beside_the_token_have_to_be_the_same_persons(liar: LyingProvider) -> None:
    liar.claims = {"groups": None}
    liar.userinfo = {"sub": "248289761001", "groups": "chiefs", "preferred_username": "mallory"}
    assert come_back(liar).person == Person("amartin", frozenset({"senior"}))
    liar.userinfo = {"sub": "another", "groups": ["chiefs"]}
    with pytest.raises(LoginRefusedError, match="another person's claims"):
        come_back(liar)


@pytest.mark.parametrize(
    "claims",
    [
        {"preferred_username": 7}, {"preferred_username": " "}, {"preferred_username": "a\u200bmartin"},
        {"preferred_username": "x" * 101}, {"groups": [7, None, {"readers": 1}]}, {"groups": {"readers": 1}},
        {"groups": 7},
    ],
    ids=str,
)  # fmt: skip
def test_a_name_or_groups_that_cannot_be_used_let_nobody_in(liar: LyingProvider, claims: dict[str, Any]) -> None:
    liar.claims = claims
    with pytest.raises(LoginRefusedError):
        come_back(liar)


@pytest.mark.parametrize("auth_time", [None, True, "1", int(time.time()) - 3_600], ids=["none", "true", "text", "old"])
def test_a_signature_needs_a_new_log_in(liar: LyingProvider, auth_time: object) -> None:
    provider = desk(liar.issuer)
    _, pending = start(provider, again_as="248289761001")
    liar.nonce, liar.claims = pending.nonce, {"auth_time": auth_time}
    with pytest.raises(LoginRefusedError):
        finish(provider, pending, {"state": pending.state, "code": "c"})
    liar.claims = {"auth_time": int(time.time())}
    assert finish(provider, pending, {"state": pending.state, "code": "c"}).person.name == "amartin"


def test_a_provider_that_takes_the_secret_in_the_form_gets_it_there(liar: LyingProvider) -> None:
    liar.description = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    come_back(liar)
    assert (liar.forms[0]["client_secret"], liar.forms[0]["authorization"]) == (SECRET, "")


def test_a_provider_that_is_away_is_named_and_no_secret_is(liar: LyingProvider) -> None:
    provider = desk(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(DirectoryUnavailableError, match="cannot be reached") as caught:
        start(provider)
    assert SECRET not in str(caught.value) and caught.value.__cause__ is None
    assert logout_url(desk(liar.issuer), "token") is None


# the cookie


def test_what_is_pending_comes_back_from_the_browser(liar: LyingProvider) -> None:
    provider = desk(liar.issuer)
    _, pending = start(provider, again_as="248289761001", return_to="/slides/12")
    cookie = seal(provider, pending)
    assert unseal(provider, cookie) == pending
    assert pending.verifier not in repr(pending)
    assert len(cookie) < 1_000 and cookie.isascii() and ";" not in cookie and " " not in cookie


def test_a_cookie_that_the_desk_has_not_made_is_refused(liar: LyingProvider) -> None:
    provider = desk(liar.issuer)
    other = desk(liar.issuer, desk_oidc_client_secret="another")
    _, pending = start(provider)
    cookie = seal(provider, pending)
    for wrong in ("", "x", "\u00e9", cookie[:-4] + "AAA=", cookie[:40], seal(other, pending)):
        with pytest.raises(LoginRefusedError):
            unseal(provider, wrong)


def test_a_log_in_has_ten_minutes(liar: LyingProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = desk(liar.issuer)
    _, pending = start(provider)
    cookie = seal(provider, pending)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + PENDING_VALID_S + 2)
    with pytest.raises(LoginRefusedError, match="ten minutes"):
        unseal(provider, cookie)
    with pytest.raises(LoginRefusedError, match="ten minutes"):
        finish(provider, pending, {"state": pending.state, "code": "c"})


def test_nothing_in_the_address_can_be_guessed(liar: LyingProvider) -> None:
    provider = desk(liar.issuer)
    found: list[tuple[str, PendingLogin]] = [start(provider) for _ in range(2)]
    (url, one), (_, other) = found
    assert len({one.state, one.nonce, one.verifier, other.state, other.nonce, other.verifier}) == 6
    query = parse_qs(urlsplit(url).query)
    assert query["redirect_uri"] == [REDIRECT_URI] and query["code_challenge_method"] == ["S256"]
    assert one.verifier not in url and "prompt" not in query


# the settings


def test_missing_settings_are_named() -> None:
    with pytest.raises(SettingError) as caught:
        OpenIdProvider(Settings(desk_login="oidc", desk_url="http://0.0.0.0:8090", desk_oidc_client_id="desk"))
    for name in ("ISSUER", "CLIENT_SECRET", "GROUPS", "PUBLIC_URL"):
        assert name in str(caught.value)
    assert "CLIENT_ID" not in str(caught.value)


def test_a_wrong_ca_file_is_named(liar: LyingProvider) -> None:
    with pytest.raises(SettingError, match="BLOODCELL_DESK_CA_FILE"):
        desk(liar.issuer, desk_ca_file="/nowhere.pem")
