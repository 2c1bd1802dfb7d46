"""Every query runs in the real psql as a reader and returns the right rows."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pytest
import sqlalchemy as sa

from bloodcell.differential.laboratory_rules import read_rules
from bloodcell.resources import sql_folder
from bloodcell.results.due_results import write_results
from bloodcell.settings import Settings
from bloodcell.storage import tables
from bloodcell.storage.connections import connect, psql_command
from bloodcell.storage.database import Database, open_database
from bloodcell.storage.embedded import EmbeddedPostgres
from bloodcell.storage.query_files import query_files
from tests.conftest import _administer
from tests.laboratory import CHALLENGER, CHAMPION, NIGHT, Laboratory

QUERIES = sorted((sql_folder() / "queries").glob("*.sql"))
SINCE = {"since": "2026-03-01"}
EARLIER = date(2026, 3, 13)
LATER = date(2026, 3, 15)

Ask = Callable[..., list[dict[str, str]]]


@pytest.fixture(scope="module")
def ask(postgres: EmbeddedPostgres, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Runs a query on a laboratory with three nights and returns the rows as psql prints them."""
    with asking(postgres, template, "queries", tmp_path_factory.mktemp("queries"), fill) as ask:
        yield ask


@contextmanager
def asking(
    postgres: EmbeddedPostgres, template: str, name: str, data_dir: Path, fill: Callable[[Database, Settings], None]
) -> Iterator[Ask]:
    """Yields a function that runs a query, by its number, on a filled database of its own."""
    _administer(postgres, f"CREATE DATABASE {name} TEMPLATE {template}")
    settings = Settings(data_dir=data_dir, database_url=postgres.url(name))
    fill(open_database(settings), settings)
    command, environment = psql_command(settings)

    def ask(number: int, **variables: object) -> list[dict[str, str]]:
        (path,) = [path for path in QUERIES if path.name.startswith(f"{number:02d}_")]
        return run_psql(postgres.psql, command, environment, path, variables)

    yield ask
    _administer(postgres, f"DROP DATABASE {name} WITH (FORCE)")


def run_psql(
    psql: Path, command: list[str], environment: dict[str, str], query: Path, variables: dict[str, object]
) -> list[dict[str, str]]:
    given = [word for name, value in variables.items() for word in ("-v", f"{name}={value}")]
    done = subprocess.run(
        [str(psql), *command[1:], "-X", "-q", "--csv", "-f", str(query), *given],
        env={**os.environ, **environment, "PGTZ": "UTC"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return list(csv.DictReader(io.StringIO(done.stdout)))


def fill(database: Database, settings: Settings) -> None:
    """Three nights: an earlier one, the one that most queries are about, and one that is still arriving."""
    lab = Laboratory(database)
    lab.model()
    lab.model(CHALLENGER, "vgg16", promote=False)
    differential_run = lab.run("differential", duration_s=5)
    classify_run = lab.run("classify", n_cells=340, duration_s=170)

    # S1: 200 leucocytes, 5 % ig, 4 erythroblasts; the analyser took 20 of 60 lymphocytes for monocytes
    codes = (
        ["SNE"] * 120 + ["LY"] * 40 + ["MO"] * 20 + ["MO"] * 10 + ["MY"] * 10 + ["ERB"] * 4 + ["PLT"] * 3 + ["BL"] * 2
    )
    called = (
        ["neutrophil"] * 120 + ["lymphocyte"] * 60 + ["monocyte"] * 10 + ["ig"] * 10 + ["erythroblast"] * 4
        + ["platelet"] * 3 + ["unclassified"] * 2
    )  # fmt: skip
    s1 = lab.cells(lab.slide("S1", acquired_at="2026-03-14 20:00+00"), codes)
    lab.call(s1, called, run_id=classify_run, confidences=[0.95] * 207 + [0.4, 0.3])
    challengers = [0.95] * 119 + [0.97] + [0.95] * 87 + [0.4, 0.3]
    lab.call(s1, ["neutrophil"] * 119 + ["ig"] + called[120:], CHALLENGER, confidences=challengers)
    lab.file("S1/SNE_1.jpg", "cell", cell_id=s1[0])
    # S2: 3 % ig of 100, which could be less than 2 %
    s2 = lab.cells(lab.slide("S2", patient_key="p-18", order_id="O-2"), [None] * 100)
    lab.call(s2, ["neutrophil"] * 97 + ["ig"] * 3, run_id=classify_run)
    # S3: too few leucocytes; one image is also in S2, of another patient
    s3_id = lab.slide("S3", patient_key="p-19")
    s3 = lab.cells(s3_id, [None] * 40)
    with database.begin() as connection:
        shared = connection.scalar(sa.select(tables.cell.c.sha256).where(tables.cell.c.cell_id == s2[0]))
        shared_cell = tables.cell.insert().values(
            slide_id=s3_id, file_name="X_1.jpg", night=NIGHT, sha256=shared, run_id=lab.run_id
        )
        s3.append(connection.scalars(shared_cell.returning(tables.cell.c.cell_id)).one())
    lab.call(s3, ["neutrophil"] * 41)
    # S4: nothing usable; S5: not called yet
    lab.slide("S4")
    lab.file("S4/LY_1.jpg", "quarantined", reason="empty", detail="expected bytes, received none")
    lab.file("S4/LY_2.jpg", "quarantined", reason="truncated", detail="ends at byte 17")
    lab.file("S4/.complete", "ignored", reason="hidden_file")
    lab.cells(lab.slide("S5"), ["LY"] * 7)
    with database.begin() as connection:
        again = tables.drop_file.update().where(tables.drop_file.c.path == "S4/LY_2.jpg")
        connection.execute(again.values(reason="damaged", detail="no scan"))

    # K: agreement with the analyser as in the textbook: the same class for 20 + 15 of 50 cells, kappa 0.4
    earlier = Laboratory(database, EARLIER)
    codes = ["LY"] * 25 + ["MO"] * 25
    called = ["lymphocyte"] * 20 + ["monocyte"] * 5 + ["lymphocyte"] * 10 + ["monocyte"] * 15
    k_id = earlier.slide("K", acquired_at="2026-03-13 20:00+00")
    earlier.call(earlier.cells(k_id, codes), called)
    Laboratory(database, LATER)
    with database.begin() as connection:
        connection.execute(tables.drop.update().where(tables.drop.c.night == LATER).values(completed_at=None))
        failed = tables.run.insert().values(
            run_id="00000000-0000-0000-0000-00000000dead", stage="classify", night=LATER, state="failed",
            started_at="2026-03-15 02:00+00", ended_at="2026-03-15 02:01+00", code_version="0.1.0", host="gpu",
            error="BundleError: altered",
        )  # fmt: skip
        connection.execute(failed)
        slides = list(connection.scalars(sa.select(tables.slide.c.slide_id)))
    write_results(database, slides=slides, run_id=differential_run, rules=read_rules(None))
    with connect(str(settings.plain_database_url)).begin() as connection:
        connection.execute(sa.text("ANALYZE"))


def columns(rows: list[dict[str, str]], *names: str) -> list[tuple[str, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


def test_all_queries_are_listed_with_their_variables() -> None:
    listed = query_files()
    assert [query.path for query in listed] == QUERIES
    assert len(QUERIES) >= 14
    for query in listed:
        (note,) = re.findall(r"^-- Set: (.*?)(?=^-- \w+: )", query.path.read_text(), re.M | re.S)
        named = re.findall(r"(?:^|\), | and )(\w+)(?= \(| and )", note.replace("\n--", " "))
        assert sorted(query.variables) == sorted(named), query.path.name
        assert bool(named) != (note == "nothing\n"), query.path.name


@pytest.mark.parametrize("path", QUERIES, ids=lambda path: path.stem)
def test_a_query_states_its_question_who_asks_and_how_to_read_it(path: Path) -> None:
    head = re.match(r"(?:--.*\n)+", path.read_text())
    assert head is not None
    expected = "expected one sentence in the first line, with a full stop, then '--', then '-- Who asks: ...'"
    assert re.match(r"-- \w.+\.\n--\n-- Who asks: ", head[0]), expected
    assert "\n-- Set: " in head[0]
    assert "\n-- Read: " in head[0]
    relations = set(re.findall(r"\bbloodcell\.(\w+)", path.read_text()))
    assert relations
    assert not relations & {table.name for table in tables.metadata.sorted_tables}, "a query reads views only"


@pytest.mark.parametrize("number", range(1, len(QUERIES) + 1))
def test_every_query_runs_with_nothing_set(ask: Ask, number: int) -> None:
    ask(number)


@pytest.mark.parametrize("path", QUERIES, ids=lambda path: path.stem)
def test_every_query_runs_on_an_empty_laboratory(postgres: EmbeddedPostgres, template: str, path: Path) -> None:
    command, environment = psql_command(Settings(database_url=postgres.url(template)))
    assert run_psql(postgres.psql, command, environment, path, {}) == []


def test_differential_of_a_slide(ask: Ask) -> None:
    rows = ask(1, barcode="S1")
    shown = {row["class"]: (row["n_cells"], row["percentage"], row["lower_95"], row["upper_95"]) for row in rows}
    # exact binomial intervals of shares of 202, in which the two blasts count, and of 4 erythroblasts beside 202
    assert list(shown.items()) == [
        ("neutrophil", ("120", "59.4", "52.3", "66.2")),
        ("eosinophil", ("0", "0.0", "0.0", "1.8")),
        ("basophil", ("0", "0.0", "0.0", "1.8")),
        ("lymphocyte", ("60", "29.7", "23.5", "36.5")),
        ("monocyte", ("10", "5.0", "2.4", "8.9")),
        ("ig", ("10", "5.0", "2.4", "8.9")),
        ("BL", ("2", "1.0", "0.1", "3.5")),
        ("erythroblast", ("4", "2.0", "0.5", "5.1")),
        ("platelet", ("3", "", "", "")),
        ("unclassified", ("0", "", "", "")),
    ]
    assert {row["model"] for row in rows} == {CHAMPION[:12]}
    assert [row["flag"] for row in rows if row["class"] == "ig"] == ["high"]
    # on every row, so that no percentage is read without it
    of_slide = ("barcode", "version", "state", "withheld_for", "signed_by", "n_leucocytes", "waiting_version")
    assert set(columns(rows, *of_slide)) == {("S1", "1", "withheld", "blasts", "", "202", "")}
    assert columns(rows, "n_labelled", "n_unverified")[5:8] == [("0", "0"), ("0", "2"), ("0", "0")]
    assert len({row["barcode"] for row in ask(1)}) == 1


def test_slides_with_immature_granulocytes(ask: Ask) -> None:
    assert columns(ask(2, **SINCE), "barcode", "state", "ig_percentage", "lower_95", "definite") == [
        ("S1", "withheld", "5.0", "2.4", "t"),
        ("S2", "machine", "3.0", "0.6", "f"),
    ]
    assert columns(ask(2, percent=3, **SINCE), "barcode", "definite") == [("S1", "f")]
    assert ask(2, since=LATER) == []


def test_cells_to_review_are_the_champions(ask: Ask) -> None:
    rows = ask(3, night=NIGHT)
    assert columns(rows, "barcode", "reason", "confidence", "analyser_code", "state") == [
        ("S1", "low_confidence", "0.300", "BL", "withheld"),
        ("S1", "low_confidence", "0.400", "BL", "withheld"),
    ]
    (first,) = ask(3, night=NIGHT, most=1)
    assert first["n_in_all"] == "2"  # a list that is cut says so
    assert ask(3) == rows  # the newest night with such cells, although nothing is unclassified and a night came later


def test_agreement_with_the_analyser(ask: Ask) -> None:
    rows = {(r["analyser_class"], r["called_class"]): (r["n_cells"], r["percent_of_row"]) for r in ask(4, since=NIGHT)}
    assert rows["lymphocyte", "lymphocyte"] == ("40", "100.0")
    assert rows["monocyte", "lymphocyte"] == ("20", "66.7")
    assert rows["monocyte", "monocyte"] == ("10", "33.3")


def test_cohens_kappa(ask: Ask) -> None:
    first, second, both = ask(5, **SINCE)
    # the textbook's example: 50 cells, the same class for 20 + 15, 0.7 observed, 0.5 expected
    assert columns([first], "night", "n_cells", "agreement", "expected", "kappa") == [
        ("2026-03-13", "50", "0.7000", "0.5000", "0.4000")
    ]
    # the same class for 187 of 207; (120^2 + 40*60 + 30*10 + 10^2 + 4^2 + 3^2) / 207^2 is expected by chance
    assert columns([second], "n_cells", "agreement", "expected", "kappa") == [("207", "0.9034", "0.4020", "0.8384")]
    assert (both["night"], both["n_cells"], both["agreement"]) == ("", "257", "0.8638")


def test_disagreement_of_models(ask: Ask) -> None:
    (pair,) = ask(6, **SINCE)
    assert (pair["challenger_variant"], pair["reported_class"], pair["challenger_class"]) == (
        "vgg16",
        "neutrophil",
        "ig",
    )
    assert (pair["n_cells"], pair["n_confident"], pair["n_slides"]) == ("1", "1", "1")
    names = ("barcode", "reported_class", "challenger_class", "n_in_all")
    assert columns(ask(7, night=NIGHT), *names) == [("S1", "neutrophil", "ig", "1")]
    assert ask(7, night=EARLIER) == []


def test_cells_that_the_ensemble_calls_differently(ask: Ask) -> None:
    # the challenger gives ig 0.97 and the champion gives neutrophil 0.95; the ensemble halves both
    *unclassified, cell = ask(35, night=NIGHT)
    assert columns(unclassified, "reported_class", "n_votes") == [("unclassified", "0")] * 2
    assert (cell["barcode"], cell["ensemble_class"], cell["ensemble_probability"]) == ("S1", "ig", "0.485")
    assert (cell["n_votes"], cell["n_models"]) == ("1", "2")
    assert (cell["reported_class"], cell["confidence"], cell["n_in_all"]) == ("neutrophil", "0.950", "3")
    assert ask(35, night=EARLIER) == []


def test_only_the_newest_model_of_a_variant_is_in_the_ensemble(
    postgres: EmbeddedPostgres, template: str, tmp_path: Path
) -> None:
    def one_cell(database: Database, settings: Settings) -> None:
        lab = Laboratory(database)
        lab.model()
        former = lab.model("f" * 64, "vgg16", promote=False)
        lab.model(CHALLENGER, "vgg16", promote=False)
        cells = lab.cells(lab.slide("S1"), ["LY"])
        lab.call(cells, ["monocyte"], former, confidences=[1.0])
        lab.call(cells, ["lymphocyte"], confidences=[0.6])
        lab.call(cells, ["ig"], CHALLENGER, confidences=[0.9])
        write_results(database, slides=[1], run_id=lab.run_id, rules=read_rules(None))

    with asking(postgres, template, "former", tmp_path, one_cell) as ask:
        (cell,) = ask(35)
    assert (cell["ensemble_class"], cell["ensemble_probability"], cell["n_models"]) == ("ig", "0.450", "2")


def test_throughput(ask: Ask) -> None:
    (classify,) = [row for row in ask(8, **SINCE) if (row["night"], row["stage"]) == (str(NIGHT), "classify")]
    assert (classify["n_cells"], classify["minutes"], classify["cells_per_s"]) == ("340", "2.8", "2.0")


def test_quarantine(ask: Ask) -> None:
    assert columns(ask(9, **SINCE), "night", "reason", "n_files", "example", "detail") == [
        (str(NIGHT), "damaged", "1", "S4/LY_2.jpg", "no scan"),
        (str(NIGHT), "empty", "1", "S4/LY_1.jpg", "expected bytes, received none"),
    ]


def test_unfinished_nights(ask: Ask) -> None:
    rows = ask(10, **SINCE)
    assert columns(rows, "night", "what", "n_waiting", "last_run") == [
        (str(NIGHT), "slides waiting", "1", rows[0]["last_run"]),
        (str(LATER), "arriving", "0", "classify failed"),
    ]
    assert {row["late"] for row in rows} == {"f"}
    assert {row["late"] for row in ask(10, hours=0, **SINCE)} == {"t"}


def test_insufficient_counts(ask: Ask) -> None:
    assert columns(ask(11, night=NIGHT), "barcode", "status", "withheld_for", "n_leucocytes", "n_quarantined") == [
        ("S3", "reported", "few_leucocytes", "41", "0"),
        ("S4", "no usable cell", "", "", "2"),
    ]


def test_nucleated_red_cells(ask: Ask) -> None:
    (row,) = ask(12, **SINCE)
    assert (row["barcode"], row["nrbc_per_100_wbc"], row["wbc_factor"], row["definite"]) == ("S1", "2.0", "0.981", "t")
    assert row["withheld_for"] == "blasts"
    assert ask(12, nrbc=2.5, **SINCE) == []


def test_flagged_slides(ask: Ask) -> None:
    first, second, third = ask(13, night=NIGHT)
    assert columns([first], "barcode", "state", "withheld_for", "n_blasts", "n_unverified", "n_out_of_scope") == [
        ("S1", "withheld", "blasts", "2", "2", "2")
    ]
    assert first["review_for"] == "blasts, other_leucocytes, nrbc, immature_granulocytes"
    assert first["findings"] == "ig high (5.0)"
    # withheld without a blast; no monocyte of 41 is only possibly low, and is not listed
    assert columns([second], "barcode", "withheld_for", "findings") == [
        ("S3", "few_leucocytes", "lymphocyte low (0.0), neutrophil high (100.0)")
    ]
    # 3 ig of 100 are possibly high: neither the range nor the review rule, which needs four cells, names them
    assert columns([third], "barcode", "state", "review_for", "findings") == [
        ("S2", "machine", "", "lymphocyte low (0.0), monocyte low (0.0), neutrophil high (97.0)")
    ]


def test_a_patients_history(ask: Ask) -> None:
    names = ("barcode", "state", "withheld_for", "lymphocyte", "ig", "ig_95", "other", "n_blasts", "sufficient")
    assert columns(ask(14, patient="p-17"), *names) == [
        ("K", "machine", "", "60.0", "0.0", "0.0-7.1", "0.0", "0", "f"),
        ("S1", "withheld", "blasts", "29.7", "5.0", "2.4-8.9", "1.0", "2", "t"),
    ]


def test_unclassified_rate(ask: Ask) -> None:
    rows = [row for row in ask(15, **SINCE) if row["night"] == str(NIGHT)]
    assert columns(rows, "variant", "reported", "n_cells", "percent_unclassified", "percent_low_confidence") == [
        ("inception_v3_svm", "t", "350", "0.57", "0.57"),
        ("vgg16", "f", "209", "0.96", "0.96"),
    ]


def test_shared_images(ask: Ask) -> None:
    assert columns(ask(16, **SINCE), "n_patients", "n_slides", "barcodes", "n_images") == [("2", "2", "{S2,S3}", "1")]
    assert ask(16, since=LATER) == []


def test_model_history(ask: Ask) -> None:
    (row,) = ask(17)
    assert (row["action"], row["model"], row["dataset"], row["champion_until"]) == (
        "promote",
        CHAMPION[:12],
        "d16e57",
        "",
    )


def test_provenance_of_a_cell(ask: Ask) -> None:
    rows = ask(18, barcode="S1")
    # expanded output: lines of name,value, the first of which the reader takes for the header
    text = "\n".join(",".join(row.values()) for row in rows)
    assert f"model_id,{CHAMPION}" in text
    assert text.index(CHAMPION) < text.index(CHALLENGER)
    assert "path,S1/SNE_1.jpg" in text
    assert "called_class,neutrophil" in text
    assert "dataset_digest,d16e57" in text
    assert "ingest_code_version,0.1.0+test" in text


def test_monthly_statistics(ask: Ask) -> None:
    (row,) = ask(19, **SINCE)
    assert row["percent_unclassified"] == "0.00"  # two cells have no call, but the analyser's code names them
    assert columns([row], "month", "n_nights", "n_slides", "n_reported", "percent_quarantined") == [
        ("2026-03", "3", "6", "4", "66.67")
    ]
    assert columns([row], "percent_insufficient", "percent_withheld", "percent_signed") == [("50.00", "50.00", "0.00")]


def test_what_became_of_a_file(ask: Ask) -> None:
    earlier, now = ask(20, barcode="S4", file="LY_2")
    assert columns([earlier, now], "path", "outcome", "reason") == [
        ("S4/LY_2.jpg", "quarantined", "truncated"),
        ("S4/LY_2.jpg", "quarantined", "damaged"),
    ]
    assert earlier["replaced_at"]
    assert not now["replaced_at"]
    assert columns(ask(20, barcode="S1"), "path", "outcome", "called_class") == [("S1/SNE_1.jpg", "cell", "neutrophil")]
    assert len(ask(20, barcode="S4")) == 4


def test_troubled_runs(ask: Ask) -> None:
    rows = ask(21, **SINCE)
    assert columns([row for row in rows if row["state"] == "failed"], "stage", "host", "error") == [
        ("classify", "gpu", "BundleError: altered")
    ]
    # those still running began on 14 March: the three ingests that the laboratory never ends
    assert {row["state"] for row in rows} == {"failed", "running"}


def test_class_shares(ask: Ask) -> None:
    newest, earlier = ask(22, **SINCE)
    assert columns([newest], "night", "n_slides", "n_leucocytes", "ig", "other") == [
        (str(NIGHT), "3", "343", "3.79", "0.58")
    ]
    assert columns([earlier], "night", "lymphocyte", "monocyte", "other") == [(str(EARLIER), "60.00", "40.00", "0.00")]


def test_what_is_asked_about_one_slide_scans_no_table(database: Database, database_url: str) -> None:
    laboratory = Laboratory(database)
    laboratory.model()
    many = """
        INSERT INTO bloodcell.slide (barcode, night, record_state, run_id)
        SELECT 'S' || n, :night, 'absent', :run_id FROM generate_series(1, 3000) n;
        INSERT INTO bloodcell.slide_report (slide_id, model_id, number, n_cells, n_leucocytes, n_other_leucocytes,
                                            n_unverified, n_blasts, n_unclassified, n_contested, n_labelled, n_labels,
                                            is_sufficient, n_compared, n_agree, run_id)
        SELECT slide_id, :model_id, number, 120, 120, 0, 0, 0, 0, 0, 0, 0, true, 0, 0, :run_id
        FROM bloodcell.slide, generate_series(1, 2) number;
        INSERT INTO bloodcell.differential (report_id, class, n_cells, n_labelled, n_unverified)
        SELECT report_id, class, 20, 0, 0 FROM bloodcell.slide_report,
               unnest(array['basophil', 'eosinophil', 'ig', 'lymphocyte', 'monocyte', 'neutrophil']) class;
        INSERT INTO bloodcell.result (slide_id, number, state, report_id, causes, withheld_for, review_for, run_id)
        SELECT slide_id, number, 'machine', report_id, '{first}', '{}', '{}', :run_id FROM bloodcell.slide_report;
        ANALYZE;
    """
    statements = {"SELECT * FROM bloodcell.slide_differential WHERE barcode = :'barcode' AND is_reported"} | {
        path.read_text().split("\\endif")[-1] for path in QUERIES if path.name[:2] in ("01", "38", "39")
    }
    assert len(statements) == 4
    small = "Seq Scan on (promotion|model|laboratory_rules|slide_withdrawal) "
    with connect(database_url).begin() as connection:
        values = {"night": laboratory.night, "run_id": laboratory.run_id, "model_id": CHAMPION}
        connection.execute(sa.text(many), values)
        asked = [text.replace(":'barcode'", "'S1'").replace(":'as_of'", "'2026-03-15'") for text in statements]
        plans = [connection.exec_driver_sql(f"EXPLAIN {text}").scalars().all() for text in asked]
    assert all(any("result_number" in line for line in lines) for lines in plans)
    assert sum(any("differential_pkey" in line for line in lines) for lines in plans) == 3  # query 38 reads no lines
    assert [line for lines in plans for line in lines if "Seq Scan" in line and not re.search(small, line)] == []
