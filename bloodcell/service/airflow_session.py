"""A session with Airflow's API server: log-in, requests and the errors that they raise."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Self

import httpx

from bloodcell.errors import BloodcellError, ConfigurationError, RetryLaterError
from bloodcell.service.airflow_home import read_password

if TYPE_CHECKING:
    from types import TracebackType

    from bloodcell.settings import AirflowSettings

_TIMEOUT_S: Final = 15.0
_PAUSE_S: Final = 2.0
_THIS_MACHINE: Final = ("127.0.0.1", "localhost", "::1")


class AirflowUnavailableError(RetryLaterError):
    """Airflow's API server could not be reached, or responded that it is not ready."""


class AirflowBusyError(AirflowUnavailableError):
    """Airflow's API server was reached, but did not answer in time, or broke off."""


class AirflowRefusedError(BloodcellError):
    """Airflow understood the request and refused it.

    Attributes:
        status: HTTP status of the response.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class AirflowSession:
    """A session with Airflow's API server; logs in when first needed, and again when the token is no longer accepted.

    Args:
        settings: Airflow's address, the user and the password file.
        patience_s: Seconds during which a request is repeated that a busy server did not answer in time, or answered
            with an error of its own. A port on which nothing listens is an error at once.

    Raises:
        ConfigurationError: BLOODCELL_AIRFLOW_URL is not an address.
    """

    def __init__(self, settings: AirflowSettings, *, patience_s: float = 0.0) -> None:
        self._settings = settings
        self._patience_s = patience_s
        try:
            url = httpx.URL(settings.airflow_url.rstrip("/"))
        except httpx.InvalidURL as error:
            raise ConfigurationError(f"BLOODCELL_AIRFLOW_URL is not an address: {error}") from error
        # a proxy configured for the internet is not used for an Airflow on this machine
        self._client = httpx.Client(base_url=url, timeout=_TIMEOUT_S, trust_env=url.host not in _THIS_MACHINE)
        self._token: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def _json(self, method: str, path: str, **request: Any) -> Any:
        return self._checked(self._response(method, path, **request), method, path)

    def _response(self, method: str, path: str, **request: Any) -> httpx.Response:
        """Returns the response, after repeating the request for `patience_s` while the server is busy."""
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                response = self._authorised(method, path, **request)
                if response.status_code < httpx.codes.INTERNAL_SERVER_ERROR or time.monotonic() > deadline:
                    return response
            except AirflowBusyError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(_PAUSE_S)

    def _authorised(self, method: str, path: str, **request: Any) -> httpx.Response:
        response = self._send(method, path, **request)
        if response.status_code == httpx.codes.UNAUTHORIZED and self._token is not None:
            self._token = None  # the secret has changed, or the token has expired
            response = self._send(method, path, **request)
        return response

    def _checked(self, response: httpx.Response, method: str, path: str) -> Any:
        if response.is_success:
            return self._read(response) if response.content else None
        detail = _detail(response)
        if response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise AirflowUnavailableError(
                f"Airflow at {self._client.base_url} responded with status {response.status_code}: {detail}"
            )
        if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise ConfigurationError(
                f"Airflow at {self._client.base_url} refuses the user {self._settings.airflow_user!r}: {detail}. "
                "Check BLOODCELL_AIRFLOW_USER and BLOODCELL_AIRFLOW_PASSWORD_FILE."
            )
        raise AirflowRefusedError(
            f"Airflow refused {method} {path} ({response.status_code}): {detail}", status=response.status_code
        )

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            if self._token is None and not path.endswith("/monitor/health"):
                self._log_in()
            headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
            return self._client.request(method, path, headers=headers, **request)
        except httpx.ConnectError as error:
            raise AirflowUnavailableError(
                f"Airflow at {self._client.base_url} cannot be reached ({error}). Check that `bloodcell up` is "
                "running, and that BLOODCELL_AIRFLOW_URL is its address."
            ) from error
        except httpx.TransportError as error:
            raise AirflowBusyError(
                f"Airflow at {self._client.base_url} did not answer ({error or type(error).__name__}; it has "
                f"{_TIMEOUT_S:g} s). Check that the machine is not overloaded, and that BLOODCELL_AIRFLOW_URL is its "
                "address."
            ) from error

    def _log_in(self) -> None:
        body = {"username": self._settings.airflow_user, "password": read_password(self._settings)}
        response = self._client.post("/auth/token", json=body)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            raise ConfigurationError(
                f"Airflow at {self._client.base_url} does not accept the password of "
                f"{self._settings.airflow_user!r}. Check BLOODCELL_AIRFLOW_PASSWORD_FILE."
            )
        if not response.is_success:
            raise AirflowBusyError(
                f"Airflow at {self._client.base_url} responded to the login with status {response.status_code}: "
                f"{_detail(response)}"
            )
        self._token = str(self._read(response)["access_token"])

    def _read(self, response: httpx.Response) -> Any:
        try:
            return response.json()
        except ValueError as error:
            raise AirflowUnavailableError(
                f"The server at {self._client.base_url} is not Airflow: expected JSON, received "
                f"{response.text[:60]!r}. Check BLOODCELL_AIRFLOW_URL."
            ) from error


def _detail(response: httpx.Response) -> str:
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = response.text
    return str(detail)[:500]
