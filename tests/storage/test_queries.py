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

from bloodcell.differential.differential_rows import write_differentials
from bloodcell.resources import sql_folder
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
    write_differentials(database, slides=slides, model_id=None, run_id=differential_run, settings=settings)
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
    # exact binomial intervals of 60, 30, 5 and 5 % of 200, and of 4 erythroblasts beside 200
    assert shown == {
        "neutrophil": ("120", "60.0", "52.9", "66.8"),
        "eosinophil": ("0", "0.0", "0.0", "1.8"),
        "basophil": ("0", "0.0", "0.0", "1.8"),
        "lymphocyte": ("60", "30.0", "23.7", "36.9"),
        "monocyte": ("10", "5.0", "2.4", "9.0"),
        "ig": ("10", "5.0", "2.4", "9.0"),
        "erythroblast": ("4", "2.0", "0.5", "5.2"),
        "platelet": ("3", "", "", ""),
        "unclassified": ("2", "", "", ""),
    }
    assert {row["model"] for row in rows} == {CHAMPION[:12]}
    assert [row["flag"] for row in rows if row["class"] == "ig"] == ["high"]
    assert {row["barcode"] for row in rows} == {"S1"}
    assert len({row["barcode"] for row in ask(1)}) == 1


def test_slides_with_immature_granulocytes(ask: Ask) -> None:
    assert columns(ask(2, **SINCE), "barcode", "ig_percentage", "lower_95", "definite") == [
        ("S1", "5.0", "2.4", "t"),
        ("S2", "3.0", "0.6", "f"),
    ]
    assert columns(ask(2, percent=3, **SINCE), "barcode", "definite") == [("S1", "f")]
    assert ask(2, since=LATER) == []


def test_cells_to_review_are_the_champions(ask: Ask) -> None:
    rows = ask(3, night=NIGHT)
    assert columns(rows, "barcode", "reason", "confidence", "analyser_code") == [
        ("S1", "low_confidence", "0.300", "BL"),
        ("S1", "low_confidence", "0.400", "BL"),
    ]
    assert len(ask(3, night=NIGHT, most=1)) == 1
    assert ask(3) == rows


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
    assert columns(ask(7, night=NIGHT), "barcode", "reported_class", "challenger_class") == [("S1", "neutrophil", "ig")]
    assert ask(7, night=EARLIER) == []


def test_cells_that_the_ensemble_calls_differently(ask: Ask) -> None:
    # the challenger gives ig 0.97 and the champion gives neutrophil 0.95; the ensemble halves both
    *unclassified, cell = ask(35, night=NIGHT)
    assert columns(unclassified, "reported_class", "n_votes") == [("unclassified", "0")] * 2
    assert (cell["barcode"], cell["ensemble_class"], cell["ensemble_probability"]) == ("S1", "ig", "0.485")
    assert (cell["n_votes"], cell["n_models"]) == ("1", "2")
    assert (cell["reported_class"], cell["confidence"]) == ("neutrophil", "0.950")
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
        write_differentials(database, slides=[1], model_id=None, run_id=lab.run_id, settings=settings)

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
    assert columns(ask(11, night=NIGHT), "barcode", "status", "n_leucocytes", "n_quarantined") == [
        ("S4", "no usable cell", "", "2"),
        ("S3", "reported", "41", "0"),
    ]


def test_nucleated_red_cells(ask: Ask) -> None:
    (row,) = ask(12, **SINCE)
    assert (row["barcode"], row["nrbc_per_100_wbc"], row["wbc_factor"], row["definite"]) == ("S1", "2.0", "0.980", "t")
    assert ask(12, nrbc=2.5, **SINCE) == []


def test_flagged_slides(ask: Ask) -> None:
    first, second = ask(13, night=NIGHT)
    assert (first["barcode"], first["n_out_of_scope"]) == ("S1", "2")  # the analyser's code is BL
    assert first["findings"] == "erythroblast high (2.0), ig high (5.0)"
    assert (second["barcode"], second["n_definite"]) == ("S2", "3")
    assert second["findings"].startswith("lymphocyte low (0.0), monocyte low (0.0), neutrophil high (97.0), ig possib")


def test_a_patients_history(ask: Ask) -> None:
    assert columns(ask(14, patient="p-17"), "barcode", "lymphocyte", "ig", "ig_95", "sufficient") == [
        ("K", "60.0", "0.0", "0.0-7.1", "f"),
        ("S1", "30.0", "5.0", "2.4-9.0", "t"),
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
    assert row["percent_unclassified"] == "0.50"  # 2 of the 400 cells in reports
    assert columns([row], "month", "n_nights", "n_slides", "n_reported", "percent_quarantined") == [
        ("2026-03", "3", "6", "4", "66.67")
    ]
    assert row["percent_insufficient"] == "50.00"


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
    assert (newest["night"], newest["n_slides"], newest["n_leucocytes"], newest["ig"]) == (
        str(NIGHT),
        "3",
        "341",
        "3.81",
    )
    assert (earlier["night"], earlier["lymphocyte"], earlier["monocyte"]) == (str(EARLIER), "60.00", "40.00")


def test_a_slides_differential_scans_no_table(database: Database, database_url: str) -> None:
    laboratory = Laboratory(database)
    laboratory.model()
    many = """
        INSERT INTO bloodcell.slide (barcode, night, record_state, run_id)
        SELECT 'S' || n, :night, 'absent', :run_id FROM generate_series(1, 3000) n;
        INSERT INTO bloodcell.slide_report (slide_id, model_id, n_cells, n_leucocytes, n_unclassified, is_sufficient,
                                            n_compared, n_agree, run_id)
        SELECT slide_id, :model_id, 120, 120, 0, true, 0, 0, :run_id FROM bloodcell.slide;
        INSERT INTO bloodcell.differential (slide_id, model_id, class, n_cells)
        SELECT slide_id, :model_id, class, 20 FROM bloodcell.slide,
               unnest(array['basophil', 'eosinophil', 'ig', 'lymphocyte', 'monocyte', 'neutrophil']) class;
        ANALYZE;
    """
    with connect(database_url).begin() as connection:
        values = {"night": laboratory.night, "run_id": laboratory.run_id, "model_id": CHAMPION}
        connection.execute(sa.text(many), values)
        plan = sa.text("EXPLAIN SELECT * FROM bloodcell.slide_differential WHERE barcode = 'S1' AND is_reported")
        lines = connection.scalars(plan).all()
    assert any("differential_pkey" in line for line in lines)
    scans = [line for line in lines if "Seq Scan" in line and " on promotion" not in line and " on model" not in line]
    assert scans == []
