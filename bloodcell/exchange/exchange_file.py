"""The exchange file: the systems that results are sent to, and the codes that the laboratory sends them with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bloodcell.differential.loinc import LoincLine
from bloodcell.toml_file import TomlFile

EXAMPLE: Final = Path(__file__).with_name("exchange_example.toml")
"""A commented exchange file, to start from."""

_Text = Annotated[str, Field(min_length=1, max_length=200)]
_Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Sender(_Part):
    """What bloodcell calls itself in messages.

    Attributes:
        application: MSH-3.
        facility: MSH-4.
        patient_authority: Who gives the pseudonyms of patients: the assigning authority in PID-3.
        system: URI under which FHIR identifiers of this laboratory are unique.
    """

    application: _Text = "bloodcell"
    facility: _Text = "laboratory"
    patient_authority: _Text = "laboratory"
    system: Annotated[str, Field(pattern=r"^(https?://|urn:)\S+$")] = "urn:bloodcell:laboratory"


class _Receiver(_Part):
    gets_unsigned: bool = False
    answer_s: float = Field(30, gt=0, le=300)


class Hl7Receiver(_Receiver):
    """A system that gets HL7 version 2.5.1 over MLLP.

    Attributes:
        host: Its name or address.
        port: Its port.
        tls: Whether the connection is encrypted, and the receiver's certificate is checked.
        ca_file: Certificates of the authorities that are trusted; default: those of this machine.
        certificate_file: This laboratory's own certificate, if the receiver asks for one, with its key.
        key_file: The key, if it is in another file.
        gets_identity: Whether it gets what the order says of the patient (PID), or only the pseudonym.
        keep_open: Whether a connection is used for many messages; false for a receiver that answers only the first one,
            or takes the earlier ones again with each new one, as node-hl7-server 2.5.0 does.
        application: MSH-5.
        facility: MSH-6.
        gets_unsigned: Whether it also gets results that nobody has signed, as preliminary.
        answer_s: Seconds to wait for an answer.
    """

    protocol: Literal["hl7"]
    host: _Text
    port: int = Field(ge=1, le=65535)
    tls: bool = True
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    keep_open: bool = True
    gets_identity: bool = True
    application: _Text
    facility: _Text

    @model_validator(mode="after")
    def _files_need_tls(self) -> Self:
        if not self.tls and (self.ca_file or self.certificate_file or self.key_file):
            raise ValueError("ca_file, certificate_file and key_file need tls = true")
        if self.key_file and not self.certificate_file:
            raise ValueError("key_file needs certificate_file")
        return self


class FhirReceiver(_Receiver):
    """A server that gets FHIR R4 transactions.

    Attributes:
        url: Its base address.
        token_file: File with a bearer token; None: the server asks for none.
        patient_system: URI under which orders' identifiers of patients are known there; None: the pseudonym is sent.
        ca_file: Certificates of the authorities that are trusted; default: those of this machine.
        gets_unsigned: Whether it also gets results that nobody has signed, as partial.
        answer_s: Seconds to wait for an answer.
    """

    protocol: Literal["fhir"]
    url: Annotated[str, Field(pattern=r"^https?://[^\s/@]+(/[^\s@]*)?$")]
    token_file: Path | None = None
    patient_system: str | None = None
    ca_file: Path | None = None


Receiver = Annotated[Hl7Receiver | FhirReceiver, Field(discriminator="protocol")]


class OrderSource(_Part):
    """Where orders are received, as HL7 over MLLP, which knows no log-in.

    Attributes:
        host: Address on which bloodcell listens.
        port: Its port; 0: any.
        certificate_file: Certificate for TLS, with its key; None: without TLS.
        key_file: The key, if it is in another file.
        client_ca_file: Authorities that the certificates of senders come from; None: none is asked for.
        addresses: Addresses of the senders; empty: any. Beyond this machine, these or `client_ca_file` are needed.
    """

    host: _Text = "127.0.0.1"
    port: int = Field(2576, ge=0, le=65535)
    certificate_file: Path | None = None
    key_file: Path | None = None
    client_ca_file: Path | None = None
    addresses: tuple[_Text, ...] = ()

    @model_validator(mode="after")
    def _is_not_open_to_all(self) -> Self:
        if self.client_ca_file and not self.certificate_file:
            raise ValueError("client_ca_file needs certificate_file")
        is_here = self.host in ("localhost", "::1") or self.host.startswith("127.")
        if not is_here and not self.client_ca_file and not self.addresses:
            raise ValueError("expected addresses or client_ca_file, because everybody who reaches the port could order")
        return self


class LineCode(_Part):
    """The laboratory's own codes of one line of a differential.

    Attributes:
        percent: Of the percentage; for erythroblasts, of the number per 100 leucocytes.
        cells: Of the number of cells.
        absolute: Of the absolute count.
    """

    percent: _Text | None = None
    cells: _Text | None = None
    absolute: _Text | None = None


class SiteCodes(_Part):
    """The laboratory's own codes, sent beside LOINC.

    Attributes:
        system: Name of the coding system; HL7 keeps names that begin with 99 for local ones.
        lines: Line -> codes. A line that is left out has codes that bloodcell makes.
    """

    system: _Text = "99BLOODCELL"
    lines: dict[LoincLine, LineCode] = Field(default_factory=dict)

    def code_of(self, line: str, what: Literal["percent", "cells", "absolute"]) -> str:
        """Returns the code of a line's percentage, number of cells or absolute count."""
        code: str | None = getattr(self.lines.get(cast("LoincLine", line)), what, None)
        return code or f"{line.upper()}_{what.upper()}"


class ExchangeFile(_Part):
    """An exchange file.

    Attributes:
        sender: What bloodcell calls itself.
        receivers: Name -> receiver; the name is what the database and `bloodcell exchange` know it by.
        orders: Where orders are received; None: nowhere.
        codes: The laboratory's own codes.
    """

    sender: Sender = Sender()
    receivers: dict[_Name, Receiver] = Field(default_factory=dict)
    orders: OrderSource | None = None
    codes: SiteCodes = SiteCodes()


NOTHING: Final = ExchangeFile()
"""Without a file, nothing leaves."""


_KIND: Final = TomlFile(
    name="exchange file",
    content=ExchangeFile,
    setting="BLOODCELL_EXCHANGE_FILE",
    next_step="bloodcell exchange example prints a file to start from.",
    secret_keys=frozenset({"url"}),
)


def read_exchange_file(path: Path | None) -> ExchangeFile:
    """Returns what a file says; None: there is no receiver.

    Raises:
        ConfigurationError: The file cannot be read or is not valid; the message names every problem.
    """
    return NOTHING if path is None else _KIND.read(path)
