"""A database is brought to this release's schema, with its views, completely or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from bloodcell.errors import ConfigurationError, SchemaError
from bloodcell.storage import migrations, tables
from bloodcell.storage.connections import connect
from bloodcell.storage.embedded import EmbeddedPostgres
from bloodcell.storage.migrations import check_revision, current_revision, head_revision, upgrade
from tests.storage.conftest import as_superuser, until

HEAD = head_revision()
UPGRADE = "import sys; from bloodcell.storage.migrations import upgrade; upgrade(sys.argv[1])"


def rows(url: str, statement: str, **values: object) -> list[tuple[Any, ...]]:
    with connect(url).connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(statement), values)]


def execute(url: str, *statements: str) -> None:
    with as_superuser(url).connect() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def contents(url: str) -> list[tuple[Any, ...]]:
    """Returns every relation and function with its object id, so that a recreated one counts as changed."""
    return rows(
        url,
        "SELECT c.oid, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema') "
        "UNION SELECT p.oid, n.nspname, p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace "
        "WHERE n.nspname = 'bloodcell' ORDER BY 1",
    )


def views(url: str) -> list[str]:
    return [name for (name,) in rows(url, "SELECT viewname FROM pg_views WHERE schemaname = 'bloodcell' ORDER BY 1")]


def test_an_empty_database_gets_every_table_and_view(empty_database_url: str) -> None:
    assert upgrade(empty_database_url) == (None, HEAD)
    found = rows(empty_database_url, "SELECT tablename FROM pg_tables WHERE schemaname = 'bloodcell'")
    assert {name for (name,) in found} == {table.name for table in tables.metadata.sorted_tables} | {"alembic_version"}
    assert "slide_differential" in views(empty_database_url)
    with connect(empty_database_url).connect() as connection:
        check_revision(connection)


def test_a_second_upgrade_changes_nothing(database_url: str) -> None:
    before = contents(database_url)
    assert upgrade(database_url) == (HEAD, HEAD)
    assert contents(database_url) == before


def test_two_upgrades_at_once_both_end_at_the_head(empty_database_url: str) -> None:
    with ThreadPoolExecutor(2) as threads:
        results = list(threads.map(upgrade, [empty_database_url] * 2))
    assert sorted(results, key=str) == [(HEAD, HEAD), (None, HEAD)]


def test_a_database_in_another_encoding_is_refused(empty_database_url: str) -> None:
    with sa.create_engine(empty_database_url, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    url = sa.make_url(empty_database_url).set(database="ascii").render_as_string(hide_password=False)
    with pytest.raises(ConfigurationError, match="ascii has the encoding SQL_ASCII, expected UTF8"):
        upgrade(url)


@pytest.mark.parametrize("found", ["9999", "00ff"])
def test_a_newer_database_is_refused_and_not_touched(database_url: str, found: str) -> None:
    execute(database_url, f"UPDATE bloodcell.alembic_version SET version_num = '{found}'")
    before = contents(database_url)
    with pytest.raises(SchemaError, match=f"revision {found}, newer than this release") as caught:
        upgrade(database_url)
    assert (caught.value.found, caught.value.expected) == (found, HEAD)
    assert contents(database_url) == before
    with connect(database_url).connect() as connection, pytest.raises(SchemaError, match="newer than this release"):
        check_revision(connection)


def test_tables_and_migrations_agree(database_url: str, empty_database_url: str) -> None:
    execute(empty_database_url, "CREATE SCHEMA bloodcell")
    tables.metadata.create_all(connect(empty_database_url))
    for name, statement in CATALOGS.items():
        assert rows(database_url, statement) == rows(empty_database_url, statement), name


def test_alembic_finds_nothing_to_migrate(database_url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with connect(database_url).connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_schemas": True,
                "include_name": lambda name, kind, _: kind != "schema" or name != tables.IDENTITY_SCHEMA,
                "version_table_schema": tables.SCHEMA,
                "compare_server_default": True,
            },
        )
        assert compare_metadata(context, tables.metadata) == []


def test_changed_views_are_replaced_and_a_missing_one_is_created(database_url: str) -> None:
    names = views(database_url)
    execute(database_url, "DROP VIEW bloodcell.operating_figure")
    upgrade(database_url)
    assert views(database_url) == names

    execute(database_url, "COMMENT ON SCHEMA bloodcell IS 'bloodcell; views of another release'")
    before = dict(rows(database_url, "SELECT relname::text, oid FROM pg_class WHERE relname = 'champion'"))
    upgrade(database_url)
    assert dict(rows(database_url, "SELECT relname::text, oid FROM pg_class WHERE relname = 'champion'")) != before
    assert rows(database_url, "SELECT has_table_privilege('bloodcell_reader', 'bloodcell.champion', 'SELECT')") == [
        (True,)
    ]


def test_a_laboratorys_own_views_are_never_dropped(database_url: str) -> None:
    execute(
        database_url,
        "CREATE SCHEMA lab",
        "CREATE VIEW lab.high_ig AS SELECT barcode FROM bloodcell.slide_differential WHERE class = 'ig'",
    )
    before = contents(database_url)
    assert upgrade(database_url) == (HEAD, HEAD)
    assert contents(database_url) == before

    execute(database_url, "COMMENT ON SCHEMA bloodcell IS 'bloodcell; views of another release'")
    with pytest.raises(SchemaError, match=r"(?s)nothing was changed.*view lab\.high_ig depends on"):
        upgrade(database_url)
    assert contents(database_url) == before


# where the upgrade is held up and killed: at its first table, or at its first view, after the migrations
@pytest.mark.parametrize("tag", ["CREATE TABLE", "CREATE VIEW"])
@pytest.mark.slow
def test_an_upgrade_that_is_killed_leaves_the_database_unchanged(empty_database_url: str, tag: str) -> None:
    execute(
        empty_database_url,
        "CREATE FUNCTION public.hold() RETURNS event_trigger LANGUAGE plpgsql AS "
        "'BEGIN PERFORM pg_advisory_xact_lock(4711); END'",
        f"CREATE EVENT TRIGGER hold ON ddl_command_end WHEN TAG IN ('{tag}') EXECUTE FUNCTION public.hold()",
    )
    before = contents(empty_database_url)
    waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted"
    with connect(empty_database_url).connect() as holder:
        holder.execute(sa.text("SELECT pg_advisory_lock(4711)"))
        child = subprocess.Popen([sys.executable, "-c", UPGRADE, empty_database_url])
        try:
            until(lambda: rows(empty_database_url, waiting) or child.poll() is not None, timeout_s=60)
            assert child.poll() is None
        finally:
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
    nobody_works = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    until(lambda: not rows(empty_database_url, nobody_works))
    assert contents(empty_database_url) == before
    with connect(empty_database_url).connect() as connection:
        assert current_revision(connection) is None
    assert upgrade(empty_database_url) == (None, HEAD)


def test_a_login_that_may_create_roles_can_upgrade_without_being_superuser(own_server: EmbeddedPostgres) -> None:
    # as on a managed Postgres, where nobody is a superuser
    execute(
        own_server.url("postgres"),
        *(f"DROP ROLE IF EXISTS {role}" for role in ("bloodcell_app", "bloodcell_reader")),
        "CREATE ROLE administrator LOGIN CREATEROLE",
        "CREATE DATABASE one OWNER administrator",
        "CREATE DATABASE two OWNER administrator",
    )
    for name in ("one", "two"):
        url = sa.make_url(own_server.url(name)).set(username="administrator").render_as_string(hide_password=False)
        assert upgrade(url) == (None, HEAD)
        assert upgrade(url) == (HEAD, HEAD)


def test_every_table_and_view_and_each_of_their_columns_has_a_comment(database_url: str) -> None:
    without = (
        "SELECT c.relname::text, a.attname::text FROM pg_class c "
        "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
        f"WHERE {_OURS} AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition "
        "AND (obj_description(c.oid) IS NULL OR col_description(c.oid, a.attnum) IS NULL) ORDER BY 1, 2"
    )
    assert rows(database_url, without) == [], "without a COMMENT (in sql/views or storage/*_tables.py)"
    functions = "SELECT proname FROM pg_proc WHERE pronamespace = 'bloodcell'::regnamespace"
    assert rows(database_url, f"{functions} AND obj_description(oid) IS NULL") == []


def test_a_column_has_the_common_description_unless_its_view_gives_another(database_url: str) -> None:
    described = (
        "SELECT col_description(a.attrelid, a.attnum) FROM pg_attribute a "
        "WHERE a.attrelid = to_regclass(:view) AND a.attname = :column"
    )
    (common,) = rows(database_url, described, view="bloodcell.slide_summary", column="barcode")
    assert common == ("Name of the slide, as the analyser writes it.",)
    (own,) = rows(database_url, described, view="bloodcell.cell_label", column="labelled_by")
    assert own == ("Who labelled the cell; in an INSERT always the login.",)


def test_changed_comments_of_tables_are_replaced_and_the_views_stay(database_url: str) -> None:
    execute(
        database_url,
        "COMMENT ON TABLE bloodcell.slide IS 'of another release'",
        "COMMENT ON COLUMN bloodcell.slide.barcode IS NULL",
    )
    before = contents(database_url)
    upgrade(database_url)
    comments = "SELECT obj_description(oid), col_description(oid, 2) FROM pg_class WHERE relname = 'slide'"
    assert rows(database_url, comments) == [(tables.slide.comment, tables.slide.c.barcode.comment)]
    assert contents(database_url) == before


def test_rows_of_the_previous_schema_are_kept_by_upgrade_and_downgrade(empty_database_url: str) -> None:
    migrate(empty_database_url, "0003")
    execute(empty_database_url, *OLD_ROWS)
    before, catalogs = rows_of_tables(empty_database_url), catalogs_of(empty_database_url)

    assert upgrade(empty_database_url) == ("0003", HEAD)
    after = rows_of_tables(empty_database_url)
    assert {table for table, kept in before.items() if not kept} == EMPTY_BEFORE
    for table in before.keys() - {"alembic_version", "cell_code"} - COPIED:
        n_columns = len(before[table][0]) if before[table] else 0  # new columns come last, and are empty or 0
        assert [row[:n_columns] for row in after[table]] == before[table], table
        assert {value for row in after[table] for value in row[n_columns:]} <= {None, 0}, table
    # cells of past nights are drawn, too: a night's sample does not depend on what became of its cells
    n_cells = rows(empty_database_url, "SELECT count(*) FROM bloodcell.cell")
    assert rows(empty_database_url, "SELECT count(*) FROM bloodcell.sampled_cell") == n_cells
    kept = (
        "SELECT slide_id, model_id, n_cells, n_leucocytes, n_unclassified, is_sufficient, nrbc_per_100_wbc, "
        "nrbc_lower, nrbc_upper, n_compared, n_agree, run_id, written_at FROM bloodcell.slide_report"
    )
    assert rows(empty_database_url, kept) == before["slide_report"]
    kept = (
        "SELECT slide_id, model_id, class, d.n_cells, percentage, lower, upper, flag FROM bloodcell.differential d "
        "JOIN bloodcell.slide_report USING (report_id)"
    )
    assert rows(empty_database_url, kept) == before["differential"]
    versions = "SELECT barcode, version, state, why, model_id, is_in_force, digest FROM bloodcell.result_version"
    assert rows(empty_database_url, versions) == [("S1", 1, "machine", "first count", "m", True, None)]
    codes = rows(empty_database_url, "SELECT code, class, name, sub_label FROM bloodcell.cell_code ORDER BY 1")
    assert [code[:3] for code in codes] == before["cell_code"]
    assert rows(empty_database_url, "SELECT gate, passed, measured, threshold FROM bloodcell.model_gate") == [
        ("no_class_worse", False, -0.2, -0.05)
    ]
    assert rows(empty_database_url, "SELECT class, n_cells, sensitivity FROM bloodcell.class_evaluation") == [
        ("ig", 5, 0.8)
    ]
    assert rows(empty_database_url, "SELECT kind, threshold FROM bloodcell.champion_check") == [("agreement", 0.9)]
    assert rows(empty_database_url, "SELECT split, class FROM bloodcell.training_image") == [("holdout", "ig")]
    with pytest.raises(sa.exc.IntegrityError, match="refused by its gates"):
        execute(
            empty_database_url,
            "INSERT INTO bloodcell.promotion (model_id, action, promoted_by, reason) "
            "VALUES ('m', 'promote', 'anna', 'anyway')",
        )

    migrate(empty_database_url, "0003", down=True)
    assert catalogs_of(empty_database_url) == catalogs
    assert {**rows_of_tables(empty_database_url), "alembic_version": None} == {**before, "alembic_version": None}
    assert upgrade(empty_database_url) == ("0003", HEAD)


def migrate(url: str, revision: str, *, down: bool = False) -> None:
    """Brings the tables, without views, to a revision."""
    from alembic import command

    with connect(url).begin() as connection:
        migrations._make_roles(connection)
        connection.execute(sa.text("CREATE SCHEMA IF NOT EXISTS bloodcell AUTHORIZATION bloodcell_owner"))
        connection.execute(sa.text("SET LOCAL ROLE bloodcell_owner"))
        migrations._drop_views(connection, None)
        config = migrations._config()
        config.attributes["connection"] = connection
        (command.downgrade if down else command.upgrade)(config, revision)


def rows_of_tables(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Returns all rows of every table."""
    names = rows(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'bloodcell' ORDER BY 1")
    return {name: rows(url, f'SELECT * FROM bloodcell."{name}" ORDER BY 1') for (name,) in names}


def catalogs_of(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Returns what the schema consists of, without comments."""
    found = {name: rows(url, CATALOGS[name]) for name in ("columns", "constraints", "indexes")}
    columns = [column[:-1] for column in found["columns"]]
    triggers = rows(
        url,
        "SELECT tgname::text, tgrelid::regclass::text, tgfoid::regproc::text FROM pg_trigger "
        "WHERE NOT tgisinternal ORDER BY 1, 2",  # those of foreign keys have numbers for names
    )
    return {**found, "columns": columns, "triggers": triggers}


@pytest.mark.parametrize(
    ("revision", "row", "says"),
    [
        ("0008", "INSERT INTO bloodcell.slide_withdrawal (slide_id, action, reason, requested_by, run_id) "
                 "SELECT slide_id, 'withdraw', 'wrong rack', 'anna', run_id FROM bloodcell.slide", "were withdrawn"),
        ("0006", "INSERT INTO bloodcell.erasure (kind, reason, requested_by) VALUES ('slide', 'consent', 'anna')",
         "were erased"),
    ],
)  # fmt: skip
def test_a_downgrade_that_would_bring_slides_back_is_refused(
    database_url: str, revision: str, row: str, says: str
) -> None:
    execute(database_url, OLD_ROWS[0], OLD_ROWS[1], OLD_ROWS[2], row)
    with pytest.raises(sa.exc.DBAPIError, match=says):
        migrate(database_url, revision, down=True)
    assert rows(database_url, "SELECT version_num FROM bloodcell.alembic_version") == [(HEAD,)]


def test_spellings_of_a_patient_key_become_one_patient_in_one_split(empty_database_url: str) -> None:
    migrate(empty_database_url, "0007")
    slides = {
        "a": "P-1 ", "b": "P-1",  # in training by one spelling, in the hold-out by the other
        "c": "\u00a0Pe\u0301", "d": "P-4", "e\u0301": None, "f": " ", "g": "P-6\t",
    }  # fmt: skip
    splits = {
        "P-1 ": "training", "P-1": "holdout", slides["c"]: "validation", "P-4": "holdout", "slide:e\u0301": "holdout",
        "slide:c": "training", " ": "training", "P-6\t": "holdout",
    }  # fmt: skip
    execute(empty_database_url, *OLD_ROWS[:2], OLD_ROWS[3])
    with as_superuser(empty_database_url).connect() as connection:
        for barcode, key in slides.items():
            connection.execute(
                sa.text("INSERT INTO bloodcell.slide (barcode, night, order_id, patient_key, record_state, run_id) "
                        "VALUES (:barcode, '2026-03-14', E'o\\u0308', :key, 'read', :run)"),
                {"barcode": barcode, "key": key, "run": _RUN},
            )  # fmt: skip
        for key, split in splits.items():
            connection.execute(
                sa.text("INSERT INTO bloodcell.data_split (split_key, split, is_blind, run_id) "
                        "VALUES (:key, :split, false, :run)"),
                {"key": key, "split": split, "run": _RUN},
            )  # fmt: skip
        for statement in (
            "INSERT INTO bloodcell.cell (slide_id, file_name, night, sha256, run_id) "
            f"VALUES (1, 'BL_1.jpg', '2026-03-14', 'a', '{_RUN}')",
            "INSERT INTO bloodcell.label (cell_id, class, labelled_by, labelled_at, is_blind, source) "
            "VALUES (1, 'ig', 'anna', now(), true, 'view')",
            "INSERT INTO bloodcell.dataset (dataset_digest, n_training, n_validation, n_holdout, n_out_of_scope, "
            f"until_label_id, left_out, run_id) VALUES ('d', 1, 0, 0, 0, 1, '{{}}', '{_RUN}')",
            "INSERT INTO bloodcell.dataset_image (dataset_digest, sha256, split, class, cell_id, split_key, label_id) "
            "VALUES ('d', 'a', 'training', 'ig', 1, 'P-1 ', 1)",
        ):
            connection.execute(sa.text(statement))
    upgrade(empty_database_url)
    assert rows(empty_database_url, "SELECT barcode, patient_key FROM bloodcell.slide ORDER BY slide_id") == [
        ("a", "P-1"), ("b", "P-1"), ("c", "P\u00e9"), ("d", "P-4"), ("\u00e9", None), ("f", " "), ("g", "P-6"),
    ]  # fmt: skip
    assert rows(empty_database_url, "SELECT DISTINCT order_id FROM bloodcell.slide") == [("\u00f6",)]
    assert dict(rows(empty_database_url, "SELECT split_key, split FROM bloodcell.data_split")) == {
        "P-1": "training", "P\u00e9": "validation", "P-4": "holdout", "slide:\u00e9": "holdout", "slide:c": "training",
        " ": "training", "P-6": "holdout",
    }  # fmt: skip
    assert rows(empty_database_url, "SELECT split_key, split FROM bloodcell.dataset_image") == [("P-1", "training")]
    with pytest.raises(sa.exc.DBAPIError, match="append-only"):
        execute(empty_database_url, "UPDATE bloodcell.data_split SET split = 'holdout'")


def test_names_get_one_form_unless_both_forms_are_there(empty_database_url: str) -> None:
    migrate(empty_database_url, "0007")
    execute(
        empty_database_url,
        *OLD_ROWS[:2],
        "INSERT INTO bloodcell.slide (barcode, night, record_state, run_id) "
        f"SELECT barcode, '2026-03-14', 'absent', '{_RUN}' "
        "FROM unnest(ARRAY[E'e\\u0301', E'u\\u0308', 'ü', 'x']) barcode",
        OLD_ROWS[3],
        "INSERT INTO bloodcell.cell (slide_id, file_name, night, sha256, run_id) "
        f"VALUES (1, E'BL_1o\\u0308.jpg', '2026-03-14', 'a', '{_RUN}')",
        "INSERT INTO bloodcell.drop_file (night, path, barcode, outcome, reason, size_bytes, changed_ns, run_id) "
        f"SELECT '2026-03-14', barcode, barcode, 'ignored', 'hidden_file', 1, 1, '{_RUN}' FROM bloodcell.slide",
    )
    upgrade(empty_database_url)
    assert rows(empty_database_url, "SELECT barcode FROM bloodcell.slide ORDER BY slide_id") == [
        ("é",), ("u\u0308",), ("ü",), ("x",),
    ]  # fmt: skip
    assert rows(empty_database_url, "SELECT file_name FROM bloodcell.cell") == [("BL_1ö.jpg",)]
    assert rows(
        empty_database_url, "SELECT count(*) FROM bloodcell.drop_file JOIN bloodcell.slide USING (barcode)"
    ) == [(4,)]


EMPTY_BEFORE = {"drop_file", "drop_file_history"}
# their rows are copied into new tables
COPIED = {"slide_report", "differential"}
_RUN = "00000000-0000-0000-0000-000000000001"
OLD_ROWS = (
    f"INSERT INTO bloodcell.run (run_id, stage, code_version, host) VALUES ('{_RUN}', 'ingest', '0.1.0', 'here')",
    f"INSERT INTO bloodcell.drop (night, folder, run_id) VALUES ('2026-03-14', '/drops/2026-03-14', '{_RUN}')",
    "INSERT INTO bloodcell.slide (barcode, night, patient_key, record_state, run_id) "
    f"VALUES ('S1', '2026-03-14', 'p-17', 'read', '{_RUN}')",
    "INSERT INTO bloodcell.image (sha256, size_bytes, width_px, height_px, format) VALUES ('a', 9, 360, 363, 'JPEG')",
    "INSERT INTO bloodcell.cell (slide_id, file_name, night, sha256, analyser_code, run_id) "
    f"VALUES (1, 'BL_1.jpg', '2026-03-14', 'a', 'BL', '{_RUN}')",
    "INSERT INTO bloodcell.model (model_id, variant, confidence_threshold, novelty_threshold, manifest, created_at, "
    "registered_by) VALUES ('m', 'vgg16', 0.5, 9, '{}', now(), 'anna')",
    "SELECT bloodcell.ensure_call_partition('2026-03-14')",
    "INSERT INTO bloodcell.cell_call (cell_id, model_id, night, called_class, top_class, confidence, novelty, "
    "p_basophil, p_eosinophil, p_erythroblast, p_ig, p_lymphocyte, p_monocyte, p_neutrophil, p_platelet, run_id) "
    f"VALUES (1, 'm', '2026-03-14', 'ig', 'ig', 0.9, 1, 0, 0, 0, 0.9, 0.1, 0, 0, 0, '{_RUN}')",
    "INSERT INTO bloodcell.promotion (model_id, action, promoted_by, reason) VALUES ('m', 'promote', 'anna', 'first')",
    "INSERT INTO bloodcell.slide_report (slide_id, model_id, n_cells, n_leucocytes, n_unclassified, is_sufficient, "
    f"n_compared, n_agree, run_id) VALUES (1, 'm', 1, 1, 0, false, 0, 0, '{_RUN}')",
    "INSERT INTO bloodcell.differential (slide_id, model_id, class, n_cells, percentage, lower, upper, flag) "
    "VALUES (1, 'm', 'ig', 1, 100, 2.5, 100, 'high')",
    "INSERT INTO bloodcell.label (cell_id, class, sub_label, labelled_by, labelled_at, is_blind, source) "
    "VALUES (1, 'ig', 'MY', 'anna', now(), true, 'view')",
    f"INSERT INTO bloodcell.label_file VALUES ('l.csv', 'b', 'imported', NULL, 1, 1, '{_RUN}')",
    f"INSERT INTO bloodcell.data_split (split_key, side, is_blind, run_id) VALUES ('p-17', 'holdout', true, '{_RUN}')",
    "INSERT INTO bloodcell.dataset (dataset_digest, n_training, n_validation, n_holdout, n_out_of_scope, "
    f"until_label_id, left_out, run_id) VALUES ('d', 0, 0, 1, 0, 1, '{{}}', '{_RUN}')",
    "INSERT INTO bloodcell.dataset_image (dataset_digest, sha256, side, class, cell_id, split_key, label_id) "
    "VALUES ('d', 'a', 'holdout', 'ig', 1, 'p-17', 1)",
    "INSERT INTO bloodcell.training_run (training_run_id, requested_by, reason, variants, base, seed, min_new_labels) "
    f"VALUES ('{_RUN}', 'anna', 'weekly', ARRAY['vgg16'], 'imagenet', 0, 1)",
    f"INSERT INTO bloodcell.candidate VALUES ('{_RUN}', 'vgg16', 'm', '{_RUN}')",
    "INSERT INTO bloodcell.evaluation (model_id, dataset_digest, n_cells, n_patients, accuracy, accuracy_lower, "
    "accuracy_upper, macro_f1, calibration_error, unclassified, figures, run_id) VALUES ('m', 'd', 1, 1, 1, 0, 1, 1, "
    """0, 0, '{"groups": [{"group": "ig", "n_true": 5, "sensitivity": {"value": 0.8}}]}', """
    f"'{_RUN}')",
    "INSERT INTO bloodcell.validation (validation_id, model_id, dataset_digest, passed, gates, report, run_id) "
    f"""VALUES ('{_RUN}', 'm', 'd', false, '[{{"gate": "no_class_worse", "passed": false, "measured": -0.2, """
    f""""limit": -0.05, "reason": "Basophils fall."}}]', 'r.html', '{_RUN}')""",
    "INSERT INTO bloodcell.model_check (model_id, kind, n_cells, limit_value, passed, reason, until_label_id, run_id) "
    f"VALUES ('m', 'agreement', 1, 0.9, true, '', 1, '{_RUN}')",
    f"INSERT INTO bloodcell.checked_cell VALUES ('m', 1, 1, 'ig', 'ig', true, false, '{_RUN}')",
)

_OURS = "relnamespace = 'bloodcell'::regnamespace AND relname <> 'alembic_version'"
_OF_OURS = f"{_OURS} AND relkind IN ('r', 'p') AND NOT relispartition"
CATALOGS = {
    "tables": f"SELECT relname::text, relkind, pg_get_partkeydef(oid), obj_description(oid) FROM pg_class "
    f"WHERE {_OF_OURS} ORDER BY 1",
    "columns": "SELECT c.relname::text, a.attnum, a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull, "
    "a.attidentity, pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum) "
    "FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid "
    f"LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum WHERE {_OF_OURS} AND a.attnum > 0 "
    "AND NOT a.attisdropped ORDER BY 1, 2",
    "constraints": "SELECT c.relname::text, k.conname::text, pg_get_constraintdef(k.oid) FROM pg_constraint k "
    f"JOIN pg_class c ON c.oid = k.conrelid WHERE {_OF_OURS} AND k.contype <> 't' ORDER BY 1, 2",
    "indexes": "SELECT tablename::text, indexname::text, indexdef FROM pg_indexes "
    "WHERE schemaname = 'bloodcell' AND tablename <> 'alembic_version' ORDER BY 1, 2",
}
