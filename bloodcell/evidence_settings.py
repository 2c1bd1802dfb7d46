"""What a model has to show: the gates of a candidate, and the nightly check of the champion."""

from __future__ import annotations

from pydantic import BaseModel, Field


class GateSettings(BaseModel):
    """What a candidate model has to show on the hold-out before a person is asked to approve it."""

    gate_accuracy_margin: float = Field(
        0.01,
        ge=0,
        lt=1,
        description="Largest loss of hold-out accuracy that the 95 % interval of the difference may include.",
    )
    gate_first_accuracy: float = Field(
        0.8, ge=0, le=1, description="Hold-out accuracy below which a first champion's 95 % interval may not reach."
    )
    gate_first_class: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of each class that a first champion has to call, and of its calls that have to be correct.",
    )
    gate_class_margin: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="Largest allowed loss of sensitivity among called cells, or of precision, in any cell class.",
    )
    gate_class_unclassified_margin: float = Field(
        0.10, ge=0, lt=1, description="Largest allowed rise in the share of unclassified cells in any cell class."
    )
    gate_max_calibration_error: float = Field(
        0.05,
        gt=0,
        le=1,
        description="Calibration error on the hold-out; a candidate fails if its whole 95 % interval is above.",
    )
    gate_unclassified_margin: float = Field(
        0.05, ge=0, lt=1, description="Largest allowed rise in the share of unclassified hold-out cells."
    )
    gate_min_held_back: float = Field(
        0.25, ge=0, le=1, description="Share of cells out of scope that a candidate has to leave unclassified."
    )
    gate_held_back_margin: float = Field(
        0.10, ge=0, lt=1, description="Largest allowed loss of the share of cells out of scope left unclassified."
    )
    gate_min_out_of_scope_cells: int = Field(
        20, ge=0, description="Fewest labelled cells out of scope with which a candidate can be judged."
    )
    gate_min_holdout_cells: int = Field(
        10, ge=1, description="Fewest hold-out cells in each cell class with which a candidate can be judged."
    )
    gate_min_class_patients: int = Field(
        5, ge=1, description="Fewest hold-out patients with cells of each class, and with cells out of scope."
    )
    gate_min_holdout_patients: int = Field(
        25, ge=2, description="Fewest hold-out patients with which a candidate can be judged."
    )


class CheckSettings(BaseModel):
    """When the champion's nightly check raises an alarm, and where the alarm goes."""

    check_min_cells: int = Field(
        50, ge=1, description="Fewest cells with which a nightly check of the champion gives a result."
    )
    check_min_agreement: float = Field(
        0.9,
        ge=0,
        le=1,
        description="Agreement with blind-read cells; the check fails if the whole 95 % interval lies below this.",
    )
    check_min_class_agreement: float = Field(
        0.8, ge=0, le=1, description="The same for the called cells of each class."
    )
    check_min_precision: float = Field(
        0.5, ge=0, le=1, description="The same for the share of the cells called a class that belong to it."
    )
    check_max_unclassified: float = Field(
        0.3,
        ge=0,
        le=1,
        description="Share of a class left unclassified; the check fails if all of the interval is above.",
    )
    check_min_held_back: float = Field(
        0.25, ge=0, le=1, description="Share of cells labelled out of scope that are left unclassified; as agreement."
    )
    check_max_psi: float = Field(
        0.25,
        gt=0,
        description="Largest allowed population stability index of class mix, confidence and novelty, "
        "compared with the validation images.",
    )
    # measured with the four shipped models on 400 unseen PBC images: changes that alter hardly any call (10 degrees of
    # hue, a sixth of the light, a third of the colour, 1 px of blur, JPEG quality 50) gave 0.00 to 0.05; changes that
    # leave many cells unclassified (20 degrees of hue, half of the colour, 2 px of blur, a tenth off centre) gave 0.03
    # to 0.2; a wrong stain gave 0.2 to 0.6
    check_max_mmd: float = Field(
        0.05,
        gt=0,
        description="Largest allowed maximum mean discrepancy (squared) of embeddings, "
        "compared with the validation images.",
    )
