"""A result as a FHIR R4 transaction: report, observations, specimen, devices, and who made it from what.

Each resource has an id that follows from its identifier (a version 5 UUID), so that a version of a result becomes the
next version of the same resources, and a transaction that is sent twice changes nothing. A server has to accept ids
that a client gives. The patient is named by the pseudonym only, without a resource.

Source: HL7 FHIR R4 (4.0.1), DiagnosticReport, Observation, Provenance; http.html#transaction and #upsert.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from bloodcell.exchange.line_texts import notes_of, uncertainty_of
from bloodcell.exchange.observations import count_observations, line_observations, panel_code

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bloodcell.exchange.exchange_file import ExchangeFile, FhirReceiver
    from bloodcell.exchange.observations import Observation, ObservationCode, Unit
    from bloodcell.exchange.outgoing_result import OutgoingLine, OutgoingResult

REPORT_STATUS: Final = {"machine": "partial", "final": "final", "amended": "amended", "corrected": "corrected"}
"""State of a version -> DiagnosticReport.status. `partial` may be unverified; `preliminary` means verified."""

OBSERVATION_STATUS: Final = {"machine": "preliminary", "final": "final", "amended": "amended", "corrected": "corrected"}

WITHDRAWN: Final = "entered-in-error"

_LOINC: Final = "http://loinc.org"
_UCUM: Final = "http://unitsofmeasure.org"
_INTERPRETATION: Final = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
_UNITS: Final[Mapping[Unit, str]] = {"/100{WBCs}": "/100 leucocytes", "{cells}": "cells"}
"""Unit in UCUM -> how people read it, if otherwise."""
_FLAGS: Final = {"low": ("L", "Low"), "high": ("H", "High")}

Resource = dict[str, Any]


def fhir_bundle(
    result: OutgoingResult, receiver: FhirReceiver, exchange: ExchangeFile, recorded_at: datetime
) -> Resource:
    """Returns the transaction as a JSON document.

    Args:
        result: What it says.
        receiver: Whom it is for.
        exchange: Names and codes of the laboratory.
        recorded_at: Now.
    """
    return _Bundle(result, receiver, exchange).transaction(recorded_at)


class _Bundle:
    """The resources of one message, which refer to each other."""

    def __init__(self, result: OutgoingResult, receiver: FhirReceiver, exchange: ExchangeFile) -> None:
        self._patient_system = receiver.patient_system
        self._result = result
        self._exchange = exchange
        self._system = exchange.sender.system
        self._slide = f"{result.slide_run_id}-{result.slide_id}"
        self._entries: list[Resource] = []

    def transaction(self, recorded_at: datetime) -> Resource:
        result = self._result
        specimen = self._put("Specimen", self._slide, self._specimen())
        model = self._put("Device", f"model-{result.model_id}", self._model())
        analyser = self._put("Device", f"analyser-{result.analyser}", self._analyser()) if result.analyser else None
        shared: Resource = {
            "subject": self._subject(),
            "specimen": specimen,
            "device": model,
            "issued": _instant(result.reported_at),
            "performer": [self._performer()],
        }
        if result.specimen_at:
            shared["effectiveDateTime"] = _instant(result.specimen_at)
        members = [
            self._put("Observation", f"{self._slide}-{name}", {**shared, **observation})
            for name, observation in self._observations()
        ]
        panel = self._put("Observation", f"{self._slide}-panel", {**shared, **self._panel(members)})
        report = self._put("DiagnosticReport", self._slide, self._report(shared, [panel, *members]))
        self._provenance(report, [each for each in (analyser, specimen) if each], model, recorded_at)
        return {"resourceType": "Bundle", "type": "transaction", "entry": self._entries}

    def _put(self, kind: str, value: str, resource: Resource) -> Resource:
        """Adds a resource under the id that its identifier gives it, and returns a reference to it."""
        system = f"{self._system}/{kind.lower()}"
        address = f"{kind}/{uuid.uuid5(uuid.NAMESPACE_URL, f'{system}|{value}')}"
        identifier = [{"system": system, "value": value}, *resource.get("identifier", [])]
        self._add(address, {**resource, **({} if kind == "Provenance" else {"identifier": identifier})})
        return {"reference": address}

    def _add(self, address: str, resource: Resource) -> None:
        kind, own = address.split("/")
        self._entries.append(
            {
                "resource": {"resourceType": kind, "id": own, **resource},
                "request": {"method": "PUT", "url": address},
            }
        )

    def _subject(self) -> Resource:
        patient = self._result.patient
        if self._patient_system and patient and patient.field(3):
            return {"type": "Patient", "identifier": {"system": self._patient_system, "value": patient.field(3)}}
        key = self._result.patient_key
        if key is None:
            return {"display": "not known to bloodcell"}
        return {"type": "Patient", "identifier": {"system": f"{self._system}/patient", "value": key}}

    def _performer(self) -> Resource:
        return {"display": self._result.signed_by or f"bloodcell {self._result.code_version}"}

    def _barcode(self) -> Resource:
        return {"system": f"{self._system}/barcode", "value": self._result.barcode}

    def _specimen(self) -> Resource:
        found: Resource = {"accessionIdentifier": self._barcode(), "subject": self._subject()}
        if self._result.collected_at:
            found["collection"] = {"collectedDateTime": _instant(self._result.collected_at)}
        return found

    def _model(self) -> Resource:
        result = self._result
        return {
            "deviceName": [{"name": f"bloodcell {result.variant}", "type": "model-name"}],
            "version": [
                {"type": {"text": "model id"}, "value": result.model_id},
                {"type": {"text": "bloodcell"}, "value": result.code_version},
            ],
        }

    def _analyser(self) -> Resource:
        return {"deviceName": [{"name": self._result.analyser, "type": "user-friendly-name"}]}

    def _observations(self) -> Iterator[tuple[str, Resource]]:
        """Yields the name and the content of each observation that is a member of the panel."""
        for each in line_observations(self._result, self._exchange.codes):
            if each.share:
                yield f"{each.line.line}-share", self._share(each.line, each.share, each.cells)
            if each.absolute:
                yield f"{each.line.line}-absolute", self._observation(each.absolute)

    def _share(self, line: OutgoingLine, share: Observation, cells: Observation) -> Resource:
        found = {**self._observation(share), "component": [self._component(cells)]}
        if line.flag in _FLAGS:
            code, display = _FLAGS[line.flag]
            coding = {"system": _INTERPRETATION, "code": code, "display": display}
            found["interpretation"] = [{"coding": [coding]}]
        if line.expected:
            low, high = (_quantity(end, share.unit) for end in line.expected)
            found["referenceRange"] = [{"low": low, "high": high}]
        if note := uncertainty_of(line):
            found["note"] = [{"text": note}]
        return found

    def _observation(self, observation: Observation) -> Resource:
        is_gone = observation.value is None  # an earlier version had one
        return {
            "status": WITHDRAWN if is_gone else self._status(OBSERVATION_STATUS),
            "category": [_LABORATORY],
            **self._component(observation),
        }

    def _component(self, observation: Observation) -> Resource:
        found: Resource = {"code": self._code(observation.code)}
        if observation.value is not None:
            value = round(observation.value, observation.digits)
            found["valueQuantity"] = _quantity(value, observation.unit)
        return found

    def _panel(self, members: Sequence[Resource]) -> Resource:
        found: Resource = {
            "status": self._status(OBSERVATION_STATUS),
            "category": [_LABORATORY],
            "code": self._code(panel_code(self._result)),
            "hasMember": list(members),
            "component": [self._component(each) for each in count_observations(self._result)],
        }
        if notes := list(notes_of(self._result)):
            found["note"] = [{"text": note} for note in notes]
        return found

    def _report(self, shared: Mapping[str, Any], results: Sequence[Resource]) -> Resource:
        report = {
            "identifier": [self._barcode()],
            "status": self._status(REPORT_STATUS),
            "category": [{"coding": [{"system": _SECTIONS, "code": "LAB", "display": "Laboratory"}]}],
            "code": self._code(panel_code(self._result)),
            "subject": shared["subject"],
            "issued": shared["issued"],
            "performer": shared["performer"],
            "specimen": [shared["specimen"]],
            "result": list(results),
        }
        if self._result.order_id:
            order = {"system": f"{self._system}/order", "value": self._result.order_id}
            report["basedOn"] = [{"type": "ServiceRequest", "identifier": order}]
        if "effectiveDateTime" in shared:
            report["effectiveDateTime"] = shared["effectiveDateTime"]
        if self._result.signed_by:
            report["resultsInterpreter"] = [{"display": self._result.signed_by}]
        return report

    def _provenance(
        self, report: Resource, sources: Sequence[Resource], model: Resource, recorded_at: datetime
    ) -> None:
        """Adds who made the report from what; one for each message."""
        result = self._result
        agents = [{"type": {"text": "assembler"}, "who": model}]
        if result.is_withdrawal and result.withdrawn_by:
            agents.insert(0, {"type": {"text": "withdrawn by"}, "who": {"display": result.withdrawn_by}})
        elif result.signed_by and not result.is_withdrawal:
            agents.insert(0, {"type": {"text": "verifier"}, "who": {"display": result.signed_by}})
        found: Resource = {
            "target": [report],
            "occurredDateTime": _instant(result.reported_at),
            "recorded": _instant(recorded_at),
            "agent": agents,
            "entity": [{"role": "source", "what": each} for each in sources],
        }
        if result.reason:
            found["reason"] = [{"text": result.reason}]
        self._put("Provenance", result.control_id, found)

    def _status(self, by_state: Mapping[str, str]) -> str:
        return WITHDRAWN if self._result.is_withdrawal else by_state[self._result.reported_state]

    def _code(self, code: ObservationCode) -> Resource:
        system = f"{self._system}/codes/{self._exchange.codes.system}"
        codings = [{"system": system, "code": code.own, "display": code.name}]
        if code.loinc:
            codings.insert(0, {"system": _LOINC, "code": code.loinc})
        return {"coding": codings, "text": code.name}


_SECTIONS: Final = "http://terminology.hl7.org/CodeSystem/v2-0074"
_CATEGORIES: Final = "http://terminology.hl7.org/CodeSystem/observation-category"
_LABORATORY: Final = {"coding": [{"system": _CATEGORIES, "code": "laboratory", "display": "Laboratory"}]}


def _quantity(value: float, unit: Unit) -> Resource:
    return {"value": value, "unit": _UNITS.get(unit, unit), "system": _UCUM, "code": unit}


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
