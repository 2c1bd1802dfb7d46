"""A failed check holds the results of its night until a named person overrides it, and holds nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from bloodcell.errors import ConfigurationError, SigningRefusedError
from bloodcell.quality import control_night, control_nights
from bloodcell.quality.restarting import Restart, restart
from bloodcell.results import read_result, write_due_results
from bloodcell.results.overriding import override_check
from bloodcell.settings import Settings
from bloodcell.storage.connections import connect
from bloodcell.storage.database import Database
from tests.laboratory import CHALLENGER, MAKE_SIGNER, NIGHT, SIGNER, Laboratory
from tests.storage.conftest import refused

CONTROL = """
version = "ours"
[sentinels]
cells = 4
probability_difference_above = 0.001
novelty_difference_percent_above = 0.1
[control_slides]
false_alarm_percent = 0.2
leucocytes_at_least = 50
unclassified_percent_above = 20.0
[figures]
baseline_nights = 10
slides_at_least = 5
leucocytes_at_least = 50
hold_for = ["1_3s", "4_1s"]
warn_for = ["2_2s", "10_x"]
share_false_alarm_percent = 0.1
share_shift_points_above = 20.0
[[control]]
name = "normal blood"
barcode = "QC-N-*"
allowed_points = 2.0
[control.percent]
neutrophil = 60.0
lymphocyte = 30.0
"""
HEALTHY = {"neutrophil": 72, "lymphocyte": 36, "monocyte": 12}
OFF_TARGET = {"neutrophil": 30, "lymphocyte": 78, "monocyte": 12}


@pytest.fixture
def ours(settings: Settings, tmp_path: Path) -> Settings:
    """Settings with a quality file that knows one control."""
    file = tmp_path / "quality.toml"
    file.write_text(CONTROL)
    return settings.model_copy(update={"quality_file": file})


@pytest.fixture
def laboratory(database: Database) -> Laboratory:
    laboratory = Laboratory(database)
    laboratory.model()
    return laboratory


@pytest.fixture
def signer(database_url: str, settings: Settings) -> Settings:
    """Settings of a person with a login of their own."""
    with connect(database_url).begin() as connection:
        connection.execute(sa.text(MAKE_SIGNER))
    url = sa.make_url(database_url).set(username=SIGNER).render_as_string(hide_password=False)
    return settings.model_copy(update={"database_url": url})


_codes = itertools.cycle(["SNE"])


def slide(laboratory: Laboratory, barcode: str, calls: Mapping[str, int], **columns: object) -> int:
    """Adds a slide whose cells the champion called like this."""
    called = [name for name, n in calls.items() for _ in range(n)]
    slide_id = laboratory.slide(barcode, **columns)
    laboratory.call(laboratory.cells(slide_id, ["SNE"] * len(called)), called)
    return slide_id


def state(laboratory: Laboratory, barcode: str) -> tuple[str, list[str]]:
    version = read_result(laboratory.database, barcode).version
    assert version is not None
    return version.state, list(version.withheld_for)


def failed(laboratory: Laboratory) -> list[int]:
    return [int(str(row[0])) for row in laboratory.rows("SELECT check_id FROM bloodcell.failed_check")]


def test_a_control_on_target_holds_nothing(laboratory: Laboratory, ours: Settings) -> None:
    slide(laboratory, "QC-N-1", HEALTHY)
    slide(laboratory, "S-1", HEALTHY)
    assert control_night(ours, NIGHT).failed == ()
    write_due_results(ours, night=NIGHT)
    assert state(laboratory, "S-1") == ("machine", [])


def test_a_control_off_target_holds_the_slides_of_its_analyser_until_a_person_overrides_it(
    laboratory: Laboratory, ours: Settings, signer: Settings
) -> None:
    slide(laboratory, "QC-N-1", OFF_TARGET)
    slide(laboratory, "S-1", HEALTHY)
    slide(laboratory, "S-2", HEALTHY, analyser="DM9600")
    (reason,) = control_night(ours, NIGHT).failed
    assert "neutrophil 30 of 120 (target 60 %" in reason
    write_due_results(ours, night=NIGHT)
    assert state(laboratory, "S-1") == ("withheld", ["quality_control"])
    assert state(laboratory, "S-2") == ("machine", [])
    with pytest.raises(sa.exc.DBAPIError, match="failed checks of the quality control that nobody has overridden: 1"):
        laboratory.sign("S-1", 1)
    assert laboratory.sign("S-2", 1) == 2

    (check,) = failed(laboratory)
    override_check(signer, check, "The control's tube was clotted; the repeat was on target.")
    assert laboratory.rows("SELECT overridden_by, recorded_by FROM bloodcell.quality_override") == [(SIGNER, SIGNER)]
    assert write_due_results(ours, only_labelled=True) == ["QC-N-1", "S-1"]
    assert state(laboratory, "S-1") == ("machine", [])
    why = laboratory.rows("SELECT why FROM bloodcell.result_version WHERE barcode = 'S-1' AND version = 2")
    assert why == [("the quality control of the night was judged again",)]
    assert laboratory.sign("S-1", 2) == 3
    # the same night again is no other failure
    assert control_night(ours, NIGHT).failed == ()
    assert failed(laboratory) == []


def test_more_cells_of_a_control_are_another_check_that_holds_again(
    laboratory: Laboratory, ours: Settings, signer: Settings
) -> None:
    control = slide(laboratory, "QC-N-1", OFF_TARGET)
    slide(laboratory, "S-1", HEALTHY)
    control_night(ours, NIGHT)
    override_check(signer, failed(laboratory)[0], "Looked at.")
    laboratory.call(laboratory.cells(control, ["SNE"] * 20), ["lymphocyte"] * 20)
    assert len(control_night(ours, NIGHT).failed) == 1
    write_due_results(ours, night=NIGHT)
    assert state(laboratory, "S-1") == ("withheld", ["quality_control"])


def test_a_version_that_waited_for_a_signature_cannot_be_signed_once_its_night_fails(
    laboratory: Laboratory, ours: Settings
) -> None:
    slide(laboratory, "S-1", HEALTHY)
    control_night(ours, NIGHT)
    write_due_results(ours, night=NIGHT)
    slide(laboratory, "QC-N-1", OFF_TARGET)  # it arrives later in the night
    control_night(ours, NIGHT)
    with pytest.raises(sa.exc.DBAPIError, match="failed checks of the quality control"):
        laboratory.sign("S-1", 1)


def test_a_control_of_no_known_analyser_holds_the_whole_night(laboratory: Laboratory, ours: Settings) -> None:
    slide(laboratory, "QC-N-1", OFF_TARGET, analyser=None)
    slide(laboratory, "S-1", HEALTHY)
    slide(laboratory, "S-2", HEALTHY, analyser="DM9600")
    control_night(ours, NIGHT)
    write_due_results(ours, night=NIGHT)
    assert state(laboratory, "S-1")[0] == state(laboratory, "S-2")[0] == "withheld"


def test_a_control_without_a_leucocyte_fails(laboratory: Laboratory, ours: Settings) -> None:
    slide(laboratory, "QC-N-1", {"unclassified": 120})
    assert "0 leucocytes were called" in control_night(ours, NIGHT).failed[0]


def test_a_control_is_never_signed_and_makes_no_message_and_no_row_of_a_mart(
    laboratory: Laboratory, ours: Settings
) -> None:
    slide(laboratory, "QC-N-1", HEALTHY)
    with laboratory.database.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO bloodcell.receiver (name, protocol, gets_unsigned) VALUES ('lis', 'hl7', true)")
        )
    control_night(ours, NIGHT)
    write_due_results(ours, night=NIGHT)
    with pytest.raises(sa.exc.DBAPIError, match="control slides, which are not signed: 1"):
        laboratory.sign("QC-N-1", 1)
    assert laboratory.rows("SELECT * FROM bloodcell.outgoing_message") == []
    for mart in ("mart_slide", "mart_slide_class", "mart_cell"):
        assert laboratory.rows(f"SELECT barcode FROM bloodcell.{mart}") == []


@pytest.mark.parametrize(
    ("analysers", "on", "expected"),
    [("[]", "DM96", 0), ('["DM96", "DM9600"]', "DM96", 1), ('["DM96"]', "DM96", 0), ('["DM9600"]', None, 1)],
)
def test_a_required_control_that_is_missing_fails(
    laboratory: Laboratory, ours: Settings, analysers: str, on: str | None, expected: int
) -> None:
    assert ours.quality_file is not None
    ours.quality_file.write_text(
        CONTROL.replace('barcode = "QC-N-*"', f'barcode = "QC-N-*"\nrequired = true\nanalysers = {analysers}')
    )
    slide(laboratory, "QC-N-1", HEALTHY, analyser=on)
    slide(laboratory, "S-1", HEALTHY)
    slide(laboratory, "S-2", HEALTHY, analyser="DM9600")
    assert len(control_night(ours, NIGHT).failed) == expected


def test_a_night_without_any_control_fails_where_one_is_required(laboratory: Laboratory, ours: Settings) -> None:
    assert ours.quality_file is not None
    ours.quality_file.write_text(CONTROL.replace("allowed_points", "required = true\nallowed_points"))
    slide(laboratory, "S-1", HEALTHY)
    assert "which the quality file requires" in control_night(ours, NIGHT).failed[0]
    write_due_results(ours, night=NIGHT)
    assert state(laboratory, "S-1") == ("withheld", ["quality_control"])


def test_a_failed_check_of_another_model_holds_nothing(laboratory: Laboratory, ours: Settings) -> None:
    slide(laboratory, "S-1", HEALTHY)
    laboratory.model(CHALLENGER, promote=False)
    run = laboratory.run("classify")
    with laboratory.database.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO bloodcell.quality_check (kind, subject, night, analyser, whole_night, model_id, passed, "
                "reason, figures, run_id) VALUES "
                "('control', 'C', :night, 'DM96', false, :model, false, 'r', '{}', :run)"
            ),
            {"night": NIGHT, "model": CHALLENGER, "run": run},
        )
    write_due_results(ours, night=NIGHT)
    assert state(laboratory, "S-1") == ("machine", [])


def test_only_a_persons_own_login_overrides(
    laboratory: Laboratory, ours: Settings, signer: Settings, database_url: str
) -> None:
    slide(laboratory, "QC-N-1", OFF_TARGET)
    control_night(ours, NIGHT)
    (check,) = failed(laboratory)
    with pytest.raises(ConfigurationError, match="may not override"):
        override_check(signer.model_copy(update={"database_url": database_url}), check, "as the service")
    with pytest.raises(SigningRefusedError, match="needs a reason"):
        override_check(signer, check, "  ")
    with pytest.raises(SigningRefusedError, match="nobody sees"):
        override_check(signer, check, "fine\u200bly")
    with pytest.raises(SigningRefusedError, match="holds nothing"):
        override_check(signer, check + 1, "another")
    override_check(signer, check, "Looked at.")
    with pytest.raises(SigningRefusedError, match="holds nothing"):
        override_check(signer, check, "again")
    for statement in (
        "INSERT INTO bloodcell.quality_override (check_id, reason, overridden_by) VALUES (1, 'r', 'chief')",
        "SELECT bloodcell.override_check_as(1, 'r', 'chief', NULL)",
    ):
        with refused("42501"), laboratory.database.begin() as connection:
            connection.execute(sa.text(statement))


@pytest.fixture
def nights(laboratory: Laboratory, database: Database) -> Callable[..., None]:
    """A function that adds nights of some slides, each called as given, the newest the one before `NIGHT`."""

    def add(n: int, calls: Callable[[int, int], Mapping[str, int]], *, slides: int = 6) -> None:
        for age in range(n, 0, -1):
            night = NIGHT - timedelta(days=age)
            of_night = Laboratory(database, night)
            for number in range(slides):
                slide(of_night, f"{night:%d%m}-{number}", calls(age, number))

    return add


def varied(age: int, number: int) -> dict[str, int]:
    return {"neutrophil": 66 + (age * 7 + number * 5) % 13, "lymphocyte": 36, "monocyte": 12}


def all_nights(settings: Settings, n: int) -> list[date]:
    nights = [NIGHT - timedelta(days=age) for age in range(n, -1, -1)]
    return [each.night for each in control_nights(settings, nights=nights) if each.failed]


def test_a_night_whose_slides_are_all_called_otherwise_is_held_once_there_is_a_baseline(
    laboratory: Laboratory, ours: Settings, nights: Callable[..., None]
) -> None:
    nights(10, varied)
    for number in range(16):
        slide(laboratory, f"S-{number}", {"neutrophil": 40, "lymphocyte": 68, "monocyte": 12})
    assert all_nights(ours, 10) == [NIGHT]
    write_due_results(ours, night=NIGHT)
    assert state(laboratory, "S-1") == ("withheld", ["quality_control"])
    subjects = laboratory.rows("SELECT subject FROM bloodcell.failed_check")
    assert {("lymphocyte",), ("neutrophil",)} <= set(subjects)


def test_a_ward_round_of_leukaemias_holds_no_night(
    laboratory: Laboratory, ours: Settings, nights: Callable[..., None]
) -> None:
    nights(10, varied)
    for number in range(16):
        ill = number < 5
        slide(laboratory, f"S-{number}", {"lymphocyte": 118, "monocyte": 2} if ill else varied(0, number))
    assert all_nights(ours, 10) == []


def test_without_a_baseline_nothing_is_judged(
    laboratory: Laboratory, ours: Settings, nights: Callable[..., None]
) -> None:
    nights(9, varied)
    for number in range(16):
        slide(laboratory, f"S-{number}", {"neutrophil": 40, "lymphocyte": 68, "monocyte": 12})
    assert all_nights(ours, 9) == []
    reasons = laboratory.rows(
        f"SELECT reason FROM bloodcell.quality_check WHERE night = '{NIGHT}' AND subject = 'neutrophil'"
    )
    assert reasons == [("Not judged: night 10 of the baseline, which has 10.",)]


def test_another_model_has_a_baseline_of_its_own(
    laboratory: Laboratory, ours: Settings, nights: Callable[..., None]
) -> None:
    nights(10, varied)
    all_nights(ours, 10)
    laboratory.model(CHALLENGER)
    for number in range(16):
        slide_id = laboratory.slide(f"S-{number}")
        calls = ["neutrophil"] * 40 + ["lymphocyte"] * 80
        laboratory.call(laboratory.cells(slide_id, ["SNE"] * 120), calls, CHALLENGER)
    assert control_night(ours, NIGHT).failed == ()


def test_a_new_baseline_begins_where_a_person_says_and_releases_nothing(
    laboratory: Laboratory, ours: Settings, signer: Settings, nights: Callable[..., None]
) -> None:
    nights(10, varied)
    for number in range(16):
        slide(laboratory, f"S-{number}", {"neutrophil": 40, "lymphocyte": 68, "monocyte": 12})
    all_nights(ours, 10)
    n_held = len(failed(laboratory))
    restart(laboratory.database, Restart("figures", "another stain", "chief", "DM96", NIGHT))
    assert len(control_night(ours, NIGHT).failed) == n_held > 0
    for check in failed(laboratory):
        override_check(signer, check, "The stain was changed.")
    assert control_night(ours, NIGHT).failed == ()
    write_due_results(ours, night=NIGHT)
    assert state(laboratory, "S-1") == ("machine", [])
    with pytest.raises(ConfigurationError, match="Expected one of: DM96"):
        restart(laboratory.database, Restart("figures", "another stain", "chief", "DM69", NIGHT))


def test_fewer_slides_than_are_judged_release_nothing(
    laboratory: Laboratory, ours: Settings, nights: Callable[..., None]
) -> None:
    nights(10, varied)
    slides = [slide(laboratory, f"S-{n}", {"neutrophil": 40, "lymphocyte": 68, "monocyte": 12}) for n in range(16)]
    all_nights(ours, 10)
    with laboratory.database.begin() as connection:
        connection.execute(sa.text("SET LOCAL ROLE bloodcell_owner"))
        connection.execute(
            sa.text("UPDATE bloodcell.slide SET withdrawn_at = now() WHERE slide_id = ANY (:slides)"),
            {"slides": slides[4:]},
        )
    assert control_night(ours, NIGHT).failed
    write_due_results(ours, night=NIGHT)
    assert state(laboratory, "S-1") == ("withheld", ["quality_control"])


def test_slides_that_were_counted_before_their_night_failed_are_counted_again_without_a_run(
    laboratory: Laboratory, ours: Settings
) -> None:
    slide(laboratory, "S-1", HEALTHY)
    write_due_results(ours, night=NIGHT)
    assert state(laboratory, "S-1") == ("machine", [])
    slide(laboratory, "QC-N-1", OFF_TARGET)
    control_night(ours, NIGHT)
    assert write_due_results(ours, only_labelled=True) == ["S-1"]
    assert state(laboratory, "S-1") == ("withheld", ["quality_control"])


def test_what_is_counted_was_checked_whoever_counts(laboratory: Laboratory, ours: Settings) -> None:
    slide(laboratory, "QC-N-1", OFF_TARGET)
    slide(laboratory, "S-1", HEALTHY)
    write_due_results(ours)
    assert state(laboratory, "S-1") == ("withheld", ["quality_control"])


def test_a_control_that_hardly_has_a_call_fails(laboratory: Laboratory, ours: Settings) -> None:
    slide(laboratory, "QC-N-1", {"neutrophil": 3, "lymphocyte": 2, "unclassified": 195})
    (reason,) = control_night(ours, NIGHT).failed
    assert "5 leucocytes were called (at least 50)" in reason
    assert "195 cells are unclassified (at most 20 %)" in reason


def test_a_control_is_judged_by_each_model_that_may_be_reported(laboratory: Laboratory, ours: Settings) -> None:
    slide(laboratory, "QC-N-1", OFF_TARGET)
    slide(laboratory, "S-1", HEALTHY)
    laboratory.model(CHALLENGER)  # promoted after both slides were called
    assert len(control_night(ours, NIGHT).failed) == 1
    write_due_results(ours, night=NIGHT)
    assert state(laboratory, "S-1") == ("withheld", ["quality_control"])


def test_an_analyser_that_is_named_later_frees_nothing(laboratory: Laboratory, ours: Settings) -> None:
    slide(laboratory, "QC-N-1", OFF_TARGET, analyser=None)
    slide_id = slide(laboratory, "S-1", HEALTHY, analyser=None)
    control_night(ours, NIGHT)
    with laboratory.database.begin() as connection:
        connection.execute(
            sa.text("UPDATE bloodcell.slide SET analyser = 'DM96' WHERE slide_id = :slide"), {"slide": slide_id}
        )
    control_night(ours, NIGHT)
    write_due_results(ours, night=NIGHT)
    assert state(laboratory, "S-1") == ("withheld", ["quality_control"])


def test_the_champions_calls_are_counted_without_what_the_analyser_coded_out_of_scope(
    laboratory: Laboratory, ours: Settings
) -> None:
    slide_id = laboratory.slide("QC-N-1")
    codes = ["SNE"] * 120 + ["BL"] * 40
    calls = ["neutrophil"] * 72 + ["lymphocyte"] * 36 + ["monocyte"] * 12 + ["lymphocyte"] * 40
    laboratory.call(laboratory.cells(slide_id, codes), calls)
    assert control_night(ours, NIGHT).failed == ()
    figures = laboratory.rows("SELECT figures -> 'n_leucocytes' FROM bloodcell.quality_check WHERE kind = 'control'")
    assert figures == [(120,)]


def test_the_night_chooses_sentinels_of_each_class(laboratory: Laboratory, ours: Settings) -> None:
    slide(laboratory, "S-1", {"neutrophil": 50, "lymphocyte": 30, "basophil": 1})
    control_night(ours, NIGHT)
    control_night(ours, NIGHT)
    found = laboratory.rows(
        "SELECT k.called_class, count(*) FROM bloodcell.sentinel JOIN bloodcell.cell USING (sha256) "
        "JOIN bloodcell.cell_call k USING (cell_id) GROUP BY 1 ORDER BY 1"
    )
    assert found == [("basophil", 1), ("lymphocyte", 2), ("neutrophil", 1)]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ('barcode = "QC-N-*"|barcode = "*"', "would fit patients' slides"),
        ("neutrophil = 60.0|neutrophil = 160.0", "less than or equal to 100"),
        ("lymphocyte = 30.0|lymphocyte = 50.0", "add up to 110 percent"),
        ("lymphocyte = 30.0|blast = 30.0", "control.0.percent.blast"),
        ('hold_for = ["1_3s", "4_1s"]|hold_for = ["3_1s"]', "figures.hold_for.0"),
    ],
)
def test_a_quality_file_that_makes_no_sense_is_refused_with_what_is_wrong(
    laboratory: Laboratory, ours: Settings, change: str, told: str
) -> None:
    before, after = change.split("|")
    assert ours.quality_file is not None
    ours.quality_file.write_text(CONTROL.replace(before, after))
    with pytest.raises(ConfigurationError, match="quality file") as caught:
        control_night(ours, NIGHT)
    assert told in str(caught.value)
