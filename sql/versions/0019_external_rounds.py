"""Rounds of external quality assessment: what is read of their cells, and what the organiser says they are."""

from alembic import op

revision = "0019"
down_revision = "0018"

_REFUSE_CHANGE = """
CREATE OR REPLACE FUNCTION bloodcell.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- an erasure deletes a patient's rows and blanks names in texts; its own record is never changed
    IF (TG_OP = 'DELETE' AND TG_TABLE_NAME IN ('label', 'checked_cell', 'data_split', 'dataset_image', 'drop_file_history',
                                             'slide_withdrawal', 'cell_call', 'former_call', 'slide_report', 'differential',
                                             'result', 'sampled_cell', 'slide_opening', 'slide_comment', 'look_check',
                                             'message_attempt', 'message_action', 'lab_order', 'sentinel',
                                             'sentinel_reference', 'control_slide'{0})
        OR TG_OP = 'UPDATE' AND TG_TABLE_NAME IN ('label', 'label_file', 'promotion', 'approval_answer', 'drop_file_history',
                                              'slide_withdrawal', 'result', 'slide_comment', 'message_attempt',
                                              'message_action', 'lab_order', 'quality_check', 'quality_override',
                                              'quality_restart'))
       AND EXISTS (SELECT FROM bloodcell.erasure WHERE erased_at = transaction_timestamp()) THEN
        RETURN NULL;
    END IF;
    -- the app may call forget_snapshot, which checks that nothing uses the snapshot; it may not delete by itself
    IF TG_OP = 'DELETE' AND TG_TABLE_NAME = 'dataset_image' AND current_setting('bloodcell.forgetting', true) = 'on' THEN
        RETURN NULL;
    END IF;
    -- the app may call replace_calls, which keeps what it replaces
    IF TG_OP = 'DELETE' AND TG_TABLE_NAME = 'cell_call' AND current_setting('bloodcell.replacing', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION '% on bloodcell.% is refused: the table is append-only', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege', HINT = 'Add a new row that supersedes the earlier one.';
END $$;
"""

TABLES = """
CREATE TABLE bloodcell.eqa_round (
    round_id BIGINT GENERATED ALWAYS AS IDENTITY NOT NULL,
    name TEXT NOT NULL,
    due TIMESTAMP WITH TIME ZONE NOT NULL,
    run_id UUID NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    PRIMARY KEY (round_id),
    FOREIGN KEY(run_id) REFERENCES bloodcell.run (run_id)
);
CREATE INDEX eqa_round_name ON bloodcell.eqa_round (name, round_id);
CREATE INDEX control_slide_name ON bloodcell.control_slide (name);

CREATE TABLE bloodcell.eqa_reading (
    reading_id BIGINT GENERATED ALWAYS AS IDENTITY NOT NULL,
    cell_id BIGINT NOT NULL,
    class TEXT,
    sub_label TEXT,
    person TEXT NOT NULL,
    session_id BIGINT NOT NULL,
    client_key UUID NOT NULL,
    read_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    PRIMARY KEY (reading_id),
    UNIQUE (client_key),
    FOREIGN KEY(cell_id) REFERENCES bloodcell.cell (cell_id),
    FOREIGN KEY(session_id) REFERENCES bloodcell.desk_session (session_id),
    CONSTRAINT eqa_reading_label CHECK (class IS NOT NULL OR sub_label IS NOT NULL)
);
CREATE UNIQUE INDEX eqa_reading_once ON bloodcell.eqa_reading (cell_id, lower(person));

CREATE TABLE bloodcell.eqa_target (
    target_id BIGINT GENERATED ALWAYS AS IDENTITY NOT NULL,
    cell_id BIGINT NOT NULL,
    class TEXT,
    sub_label TEXT,
    requested_by TEXT NOT NULL,
    recorded_by TEXT DEFAULT session_user NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    PRIMARY KEY (target_id),
    FOREIGN KEY(cell_id) REFERENCES bloodcell.cell (cell_id),
    CONSTRAINT eqa_target_label CHECK (class IS NOT NULL OR sub_label IS NOT NULL)
);
CREATE INDEX eqa_target_cell ON bloodcell.eqa_target (cell_id, target_id);
GRANT SELECT, INSERT ON bloodcell.eqa_round TO bloodcell_app;
GRANT SELECT ON bloodcell.eqa_reading TO bloodcell_app;
GRANT SELECT, INSERT (cell_id, class, sub_label, requested_by) ON bloodcell.eqa_target TO bloodcell_app;
DO $$ DECLARE name text; BEGIN
    FOREACH name IN ARRAY ARRAY['eqa_round', 'eqa_reading', 'eqa_target'] LOOP
        EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON bloodcell.%I '
                       'FOR EACH STATEMENT EXECUTE FUNCTION bloodcell.refuse_change()', name);
    END LOOP;
END $$;
"""

_DRAW = """
CREATE OR REPLACE FUNCTION bloodcell.draw_sample(a_night date, n_wanted integer, a_run uuid) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    n_drawn integer;
BEGIN
    PERFORM FROM bloodcell."drop" WHERE night = a_night FOR UPDATE;
    -- an ingest that brought nothing has no reason to compute a million digests
    IF (SELECT count(*) FROM bloodcell.sampled_cell WHERE night = a_night) >= n_wanted
       AND NOT EXISTS (SELECT 1 FROM bloodcell.cell WHERE night = a_night AND run_id = a_run) THEN
        RETURN 0;
    END IF;
    INSERT INTO bloodcell.sampled_cell (cell_id, night, is_read_twice, run_id)
    SELECT cell_id, a_night, right(key, 1) < '4', a_run
    FROM (SELECT c.cell_id,
                 encode(sha256(convert_to(c.sha256 || ' ' || c.cell_id, 'UTF8')), 'hex') COLLATE "C" AS key
          FROM bloodcell.cell c JOIN bloodcell.slide s USING (slide_id)
          WHERE c.night = a_night AND s.withdrawn_at IS NULL{0}
          ORDER BY key LIMIT n_wanted) lowest
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS n_drawn = ROW_COUNT;
    RETURN n_drawn;
END $$;
"""
_NO_CONTROL = """
            AND NOT EXISTS (SELECT FROM bloodcell.control_slide k WHERE k.slide_id = c.slide_id)"""

DOWNGRADE = """
DO $$ BEGIN
    IF EXISTS (SELECT FROM bloodcell.eqa_reading) OR EXISTS (SELECT FROM bloodcell.eqa_target) THEN
        RAISE EXCEPTION 'Rounds of external quality assessment have been read, and the former schema cannot hold them'
            USING HINT = 'Stay with this release, or restore the backup that was made before the upgrade.';
    END IF;
END $$;
DROP TABLE bloodcell.eqa_target CASCADE;
DROP TABLE bloodcell.eqa_reading CASCADE;
DROP TABLE bloodcell.eqa_round CASCADE;
DROP INDEX bloodcell.control_slide_name;
"""


def upgrade() -> None:
    _run(TABLES + _DRAW.format(_NO_CONTROL) + _REFUSE_CHANGE.format(", 'eqa_reading', 'eqa_target'"))


def downgrade() -> None:
    _run(_DRAW.format("") + _REFUSE_CHANGE.format("") + DOWNGRADE)


def _run(statements: str) -> None:
    op.get_bind().exec_driver_sql(statements, execution_options={"no_parameters": True})
