"""Delivers results to a FHIR R4 server, each as one transaction."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Self

import httpx

from bloodcell.errors import ConfigurationError
from bloodcell.exchange.client_tls import client_context
from bloodcell.exchange.delivery import Attempt, MadeMessage, NoAnswerError
from bloodcell.exchange.fhir_bundle import fhir_bundle

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from bloodcell.exchange.exchange_file import ExchangeFile, FhirReceiver
    from bloodcell.exchange.outgoing_result import OutgoingResult

_MAX_ANSWER_BYTES: Final = 1024 * 1024
_MAX_TEXT: Final = 1000
_NOT_ABOUT_THE_MESSAGE: Final = (401, 403, 407, 408, 421, 425, 429)
"""Status codes that speak of the log-in or of the server's load, not of the message: it is sent again."""


class FhirLink:
    """A server; the connection stays open for many transactions."""

    def __init__(self, receiver: FhirReceiver, exchange: ExchangeFile) -> None:
        self._receiver = receiver
        self._exchange = exchange
        self._host = httpx.URL(receiver.url).host
        self._client: httpx.Client | None = None

    def make(self, result: OutgoingResult) -> MadeMessage:
        """Returns the message about a result, a transaction."""
        document = fhir_bundle(result, self._receiver, self._exchange, datetime.now(UTC))
        return MadeMessage(result, json.dumps(document, ensure_ascii=False).encode(), len(document["entry"]))

    def deliver(self, message: MadeMessage, meanwhile: Callable[[], None]) -> Attempt:
        """Sends a message and returns what the server answered.

        Args:
            message: The message.
            meanwhile: Not called: the client sends and waits in one call.

        Raises:
            NoAnswerError: The server cannot be reached, does not answer, refuses the log-in or is overloaded.
            ConfigurationError: The token or a certificate of the exchange file cannot be read.
        """
        body = message.body
        if self._client is None:
            self._client = self._connect()
        status, answered = self._post(self._client, body)
        host = self._host
        if status >= 500 or status in _NOT_ABOUT_THE_MESSAGE or 300 <= status < 400:
            raise NoAnswerError(f"{host} answered {status}.")  # the text may quote a patient, and is logged
        if status >= 400:
            return Attempt("rejected", f"{status} {_text(answered)}".strip()[:_MAX_TEXT], body)
        statuses = _statuses(answered)
        if statuses is None or len(statuses) != message.n_entries:
            raise NoAnswerError(f"{host} answered {status}, and not with the outcome of each entry of the transaction.")
        if failed := [text for code, text in statuses if not code.startswith("2")]:
            return Attempt("rejected", "; ".join(failed)[:_MAX_TEXT], body)
        return Attempt("delivered", str(status), body)

    def _post(self, client: httpx.Client, body: bytes) -> tuple[int, bytes]:
        """Returns the status and the body of the answer."""
        try:
            with client.stream("POST", self._receiver.url, content=body) as response:
                answered, ends_at = b"", time.monotonic() + self._receiver.answer_s
                for part in response.iter_bytes():
                    answered += part
                    if time.monotonic() > ends_at:
                        raise NoAnswerError(f"No whole answer within {self._receiver.answer_s:g} s.")
                    if len(answered) > _MAX_ANSWER_BYTES:
                        raise NoAnswerError(f"The answer is longer than {_MAX_ANSWER_BYTES:,} bytes.")
                return response.status_code, answered
        except httpx.TimeoutException as error:
            raise NoAnswerError(f"No answer within {self._receiver.answer_s:g} s.") from error
        except httpx.HTTPError as error:
            raise NoAnswerError(f"{self._host} cannot be reached: {error}") from error

    def _connect(self) -> httpx.Client:
        receiver = self._receiver
        kind = "application/fhir+json"
        headers = {"Content-Type": f"{kind}; charset=utf-8", "Accept": kind, "Prefer": "return=minimal"}
        try:
            if receiver.token_file:
                headers["Authorization"] = f"Bearer {receiver.token_file.read_text().strip()}"
        except OSError as error:
            raise ConfigurationError(
                f"The token for {receiver.url} cannot be read: {error.strerror or error}. Next: correct token_file in "
                "the exchange file."
            ) from error
        # a proxy of the environment would get the results, and a redirection the token
        return httpx.Client(
            headers=headers,
            timeout=receiver.answer_s,
            verify=client_context(receiver.url, receiver.ca_file),
            trust_env=False,
            follow_redirects=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            self._client.close()


def _document(answered: bytes) -> dict[str, Any]:
    try:
        found = json.loads(answered)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(answered: bytes) -> str:
    """Returns what an OperationOutcome says; of anything else the beginning."""
    issues = _document(answered).get("issue")
    if not isinstance(issues, list):
        return " ".join(answered[:200].decode("utf-8", "replace").split())
    said = []
    for issue in issues:
        if isinstance(issue, dict):
            details = issue.get("details")
            text = details.get("text") if isinstance(details, dict) else None
            said.append(": ".join(str(each) for each in (issue.get("code"), issue.get("diagnostics") or text) if each))
    return "; ".join(said)[:_MAX_TEXT]


def _statuses(answered: bytes) -> list[tuple[str, str]] | None:
    """Returns of each entry of a transaction's answer its status, and what it says; None if it is no such answer."""
    document = _document(answered)
    entries = document.get("entry")
    if document.get("type") not in ("transaction-response", "batch-response") or not isinstance(entries, list):
        return None
    found = []
    for entry in entries:
        response = entry.get("response") if isinstance(entry, dict) else None
        status = str(response.get("status", "")) if isinstance(response, dict) else ""
        outcome = _text(json.dumps(response.get("outcome")).encode()) if isinstance(response, dict) else ""
        found.append((status, f"{status} {outcome}".strip()))
    return found
