"""Quality control holds the results of a night: sentinel cells, control slides, moving figures, and who overrode a hold."""

from alembic import op

revision = "0018"
down_revision = "0017"

_REFUSE_CHANGE = """
CREATE OR REPLACE FUNCTION bloodcell.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- an erasure deletes a patient's rows and blanks names in texts; its own record is never changed
    IF (TG_OP = 'DELETE' AND TG_TABLE_NAME IN ('label', 'checked_cell', 'data_split', 'dataset_image', 'drop_file_history',
                                             'slide_withdrawal', 'cell_call', 'former_call', 'slide_report', 'differential',
                                             'result', 'sampled_cell', 'slide_opening', 'slide_comment', 'look_check',
                                             'message_attempt', 'message_action', 'lab_order'{0})
        OR TG_OP = 'UPDATE' AND TG_TABLE_NAME IN ('label', 'label_file', 'promotion', 'approval_answer', 'drop_file_history',
                                              'slide_withdrawal', 'result', 'slide_comment', 'message_attempt',
                                              'message_action', 'lab_order'{1}))
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
CREATE TABLE bloodcell.sentinel (
    sha256 VARCHAR(64) NOT NULL,
    run_id UUID NOT NULL,
    chosen_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (sha256),
    FOREIGN KEY(sha256) REFERENCES bloodcell.image (sha256),
    FOREIGN KEY(run_id) REFERENCES bloodcell.run (run_id)
);
CREATE TABLE bloodcell.sentinel_reference (
    reference_id BIGINT GENERATED ALWAYS AS IDENTITY NOT NULL,
    sha256 VARCHAR(64) NOT NULL,
    model_id VARCHAR(64) NOT NULL,
    probabilities REAL[] NOT NULL,
    novelty REAL NOT NULL,
    host TEXT NOT NULL,
    run_id UUID NOT NULL,
    made_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    PRIMARY KEY (reference_id),
    FOREIGN KEY(sha256) REFERENCES bloodcell.sentinel (sha256) ON DELETE CASCADE,
    FOREIGN KEY(model_id) REFERENCES bloodcell.model (model_id),
    FOREIGN KEY(run_id) REFERENCES bloodcell.run (run_id)
);
CREATE INDEX sentinel_reference_of ON bloodcell.sentinel_reference (model_id, sha256, reference_id);

CREATE TABLE bloodcell.control_slide (
    slide_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    run_id UUID NOT NULL,
    found_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (slide_id),
    FOREIGN KEY(slide_id) REFERENCES bloodcell.slide (slide_id),
    FOREIGN KEY(run_id) REFERENCES bloodcell.run (run_id)
);

CREATE TABLE bloodcell.quality_check (
    check_id BIGINT GENERATED ALWAYS AS IDENTITY NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    night DATE,
    analyser TEXT,
    whole_night BOOLEAN NOT NULL,
    model_id VARCHAR(64),
    called_by UUID,
    passed BOOLEAN NOT NULL,
    judged BOOLEAN DEFAULT true NOT NULL,
    value FLOAT,
    center FLOAT,
    lower FLOAT,
    upper FLOAT,
    reason TEXT NOT NULL,
    figures JSONB NOT NULL,
    run_id UUID NOT NULL,
    checked_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    key TEXT GENERATED ALWAYS AS (md5(kind || '/' || subject || '/' || coalesce((night - DATE '2000-01-01')::text, '') || '/'
        || coalesce('a' || analyser, '') || '/' || coalesce(model_id, '') || '/' || coalesce(called_by::text, ''))) STORED NOT NULL,
    PRIMARY KEY (check_id),
    FOREIGN KEY(model_id) REFERENCES bloodcell.model (model_id),
    FOREIGN KEY(called_by) REFERENCES bloodcell.run (run_id),
    FOREIGN KEY(run_id) REFERENCES bloodcell.run (run_id),
    CONSTRAINT quality_check_kind CHECK (kind IN ('sentinel', 'control', 'figure'))
);
CREATE INDEX quality_check_key ON bloodcell.quality_check (key, check_id);
CREATE INDEX quality_check_night ON bloodcell.quality_check (kind, night);
CREATE INDEX result_held ON bloodcell.result (slide_id) WHERE signed_by IS NULL AND 'quality_control' = ANY (withheld_for);
CREATE INDEX quality_check_failed ON bloodcell.quality_check (check_id) WHERE NOT passed;

CREATE TABLE bloodcell.quality_override (
    override_id BIGINT GENERATED ALWAYS AS IDENTITY NOT NULL,
    check_id BIGINT NOT NULL,
    reason TEXT NOT NULL,
    overridden_by TEXT NOT NULL,
    session_id BIGINT,
    recorded_by TEXT DEFAULT session_user NOT NULL,
    overridden_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    PRIMARY KEY (override_id),
    UNIQUE (check_id),
    FOREIGN KEY(check_id) REFERENCES bloodcell.quality_check (check_id),
    FOREIGN KEY(session_id) REFERENCES bloodcell.desk_session (session_id),
    CONSTRAINT quality_override_reason CHECK (length(trim(reason)) > 0)
);

CREATE TABLE bloodcell.quality_restart (
    restart_id BIGINT GENERATED ALWAYS AS IDENTITY NOT NULL,
    what TEXT NOT NULL,
    analyser TEXT,
    from_night DATE,
    reason TEXT NOT NULL,
    requested_by TEXT NOT NULL,
    recorded_by TEXT DEFAULT session_user NOT NULL,
    restarted_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    PRIMARY KEY (restart_id),
    CONSTRAINT quality_restart_what CHECK (what IN ('sentinels', 'figures')),
    CONSTRAINT quality_restart_night CHECK ((what = 'figures') = (from_night IS NOT NULL)),
    CONSTRAINT quality_restart_reason CHECK (length(trim(reason)) > 0)
);
GRANT SELECT, INSERT ON bloodcell.sentinel, bloodcell.sentinel_reference, bloodcell.control_slide, bloodcell.quality_check
    TO bloodcell_app;
GRANT SELECT ON bloodcell.quality_override TO bloodcell_app;
GRANT SELECT, INSERT (what, analyser, from_night, reason, requested_by) ON bloodcell.quality_restart TO bloodcell_app;
DO $$ DECLARE name text; BEGIN
    FOREACH name IN ARRAY ARRAY['sentinel', 'sentinel_reference', 'control_slide', 'quality_check', 'quality_override',
                                'quality_restart'] LOOP
        EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON bloodcell.%I '
                       'FOR EACH STATEMENT EXECUTE FUNCTION bloodcell.refuse_change()', name);
    END LOOP;
END $$;
"""

OVERRIDES = """
CREATE FUNCTION bloodcell.override_check_as(a_check bigint, a_reason text, a_person text, a_session bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF bloodcell.has_invisible(a_reason) THEN
        RAISE EXCEPTION 'The reason has characters that nobody sees' USING ERRCODE = 'no_data_found';
    END IF;
    IF coalesce(length(trim(a_reason)), 0) = 0 THEN
        RAISE EXCEPTION 'An override needs a reason' USING ERRCODE = 'no_data_found';
    END IF;
    PERFORM FROM bloodcell.lock WHERE work = 'check' FOR UPDATE;
    IF NOT EXISTS (SELECT FROM bloodcell.failed_check f WHERE f.check_id = a_check) THEN
        RAISE EXCEPTION 'The check holds nothing: it passed, was overridden, was done again, or does not exist'
            USING ERRCODE = 'no_data_found';
    END IF;
    -- what such a run still calls, nobody has seen
    IF EXISTS (SELECT FROM bloodcell.quality_check q JOIN bloodcell.run r ON r.run_id = q.called_by
               WHERE q.check_id = a_check AND r.state = 'running') THEN
        RAISE EXCEPTION 'The run whose calls the check holds has not ended' USING ERRCODE = 'no_data_found';
    END IF;
    INSERT INTO bloodcell.quality_override (check_id, reason, overridden_by, session_id)
    VALUES (a_check, trim(a_reason), a_person, a_session);
END $$;
REVOKE ALL ON FUNCTION bloodcell.override_check_as(bigint, text, text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION bloodcell.override_check_as(bigint, text, text, bigint) IS
    'Overrides a failed check as a person whom the caller has identified; no role may call it itself.';

CREATE FUNCTION bloodcell.override_check(a_check bigint, a_reason text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- as a signature, an override is a person's
    IF pg_has_role(session_user, 'bloodcell_app', 'MEMBER') OR pg_has_role(session_user, 'bloodcell_owner', 'MEMBER')
       OR pg_has_role(session_user, 'bloodcell_desk', 'MEMBER') THEN
        RAISE EXCEPTION 'The login % may do the work of the service, so its override would name no person', session_user
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    PERFORM bloodcell.override_check_as(a_check, a_reason, session_user, NULL);
END $$;
REVOKE ALL ON FUNCTION bloodcell.override_check(bigint, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION bloodcell.override_check(bigint, text) TO bloodcell_reviewer;
COMMENT ON FUNCTION bloodcell.override_check(bigint, text) IS
    'Overrides a failed check of the quality control as the login that Postgres authenticated.';
"""

_MISSING = """
CREATE OR REPLACE FUNCTION bloodcell.missing_for_signature(a_slide bigint, a_report bigint)
RETURNS TABLE (what text, told text, n bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    counted bloodcell.slide_report;
BEGIN
    SELECT * INTO counted FROM bloodcell.slide_report r WHERE r.report_id = a_report AND r.slide_id = a_slide;
    RETURN QUERY SELECT m.* FROM (
        {0}SELECT 'cells' AS what, 'cells not counted yet' AS told, count(*) - counted.n_cells AS n
        FROM bloodcell.cell c WHERE c.slide_id = a_slide
        UNION ALL
        -- a label that changes nothing makes a newer count, and no version
        SELECT 'labels', 'labels not counted yet',
               count(*) - (SELECT max(r.n_labels) FROM bloodcell.slide_report r WHERE r.slide_id = a_slide)
        FROM bloodcell.label l JOIN bloodcell.cell c USING (cell_id) WHERE c.slide_id = a_slide
        UNION ALL
        SELECT 'unclassified', 'unclassified cells without a label', coalesce(sum(d.n_cells), 0)
        FROM bloodcell.differential d WHERE d.report_id = a_report AND d.class = 'unclassified'
        UNION ALL
        SELECT 'blast', 'blasts of the analyser without a label', coalesce(sum(d.n_unverified), 0)
        FROM bloodcell.differential d WHERE d.report_id = a_report AND d.class = 'BL'
        UNION ALL
        SELECT 'undecided', 'cells that the analyser could not name, without a label', coalesce(sum(d.n_unverified), 0)
        FROM bloodcell.differential d WHERE d.report_id = a_report AND d.class IN ('NC', 'OTH')
        UNION ALL
        SELECT 'contested', 'contested cells', CAST(counted.n_contested AS bigint)
        UNION ALL
        SELECT 'second_reader', 'cells that a second person has to read', count(*)
        FROM bloodcell.cells_for_second_reader(a_slide, counted.rules_digest)
    ) m WHERE m.n <> 0;
END $$;
"""
_OF_QUALITY = """SELECT 'control' AS what, 'control slides, which are not signed' AS told, count(*) AS n
        FROM bloodcell.control_slide c WHERE c.slide_id = a_slide
        UNION ALL
        SELECT 'quality', 'failed checks of the quality control that nobody has overridden', count(*)
        FROM bloodcell.quality_hold h
        WHERE h.slide_id = a_slide AND (h.model_id IS NULL OR h.model_id = counted.model_id)
        UNION ALL
        """

_QUEUE = """
CREATE OR REPLACE FUNCTION bloodcell.queue_results() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO bloodcell.outgoing_message (receiver, slide_id, result_id, kind, control_id)
    SELECT r.name, n.slide_id, n.result_id, 'result', bloodcell.new_control_id()
    FROM new_results n CROSS JOIN bloodcell.receiver r
    WHERE r.removed_at IS NULL{0}
      AND (n.signed_by IS NOT NULL
           OR r.gets_unsigned AND n.state = 'machine' AND NOT EXISTS (
               SELECT FROM bloodcell.result e WHERE e.slide_id = n.slide_id AND e.signed_by IS NOT NULL))
    ORDER BY n.result_id, r.name;
    INSERT INTO bloodcell.outgoing_message (receiver, slide_id, result_id, kind, control_id)
    SELECT last.receiver, n.slide_id, n.result_id, 'withdrawal', bloodcell.new_control_id()
    FROM new_results n CROSS JOIN LATERAL (
        SELECT DISTINCT ON (m.receiver) m.receiver, m.kind, v.signed_by FROM bloodcell.outgoing_message m
        JOIN bloodcell.result v USING (result_id)
        WHERE m.slide_id = n.slide_id ORDER BY m.receiver, m.message_id DESC) last
    WHERE n.state = 'withheld' AND last.kind = 'result' AND last.signed_by IS NULL
    ORDER BY n.result_id, last.receiver;
    RETURN NULL;
END $$;
"""
_NO_CONTROL = """
      AND NOT EXISTS (SELECT FROM bloodcell.control_slide c WHERE c.slide_id = n.slide_id)"""

DOWNGRADE = """
DO $$ BEGIN
    IF EXISTS (SELECT FROM bloodcell.quality_check) OR EXISTS (SELECT FROM bloodcell.control_slide) THEN
        RAISE EXCEPTION 'Nights have passed quality control, and the former schema cannot hold what it found'
            USING HINT = 'Stay with this release, or restore the backup that was made before the upgrade.';
    END IF;
END $$;
DROP INDEX bloodcell.result_held;
DROP FUNCTION bloodcell.override_check(bigint, text) CASCADE;
DROP FUNCTION bloodcell.override_check_as(bigint, text, text, bigint) CASCADE;
DROP TABLE bloodcell.quality_restart CASCADE;
DROP TABLE bloodcell.quality_override CASCADE;
DROP TABLE bloodcell.quality_check CASCADE;
DROP TABLE bloodcell.control_slide CASCADE;
DROP TABLE bloodcell.sentinel_reference CASCADE;
DROP TABLE bloodcell.sentinel CASCADE;
"""


def upgrade() -> None:
    _run(TABLES + OVERRIDES + _MISSING.format(_OF_QUALITY) + _QUEUE.format(_NO_CONTROL))
    _run(
        _REFUSE_CHANGE.format(
            ", 'sentinel', 'sentinel_reference', 'control_slide'",
            ", 'quality_check', 'quality_override', 'quality_restart'",
        )
    )


def downgrade() -> None:
    _run(_MISSING.format("") + _QUEUE.format("") + _REFUSE_CHANGE.format("", "") + DOWNGRADE)


def _run(statements: str) -> None:
    op.get_bind().exec_driver_sql(statements, execution_options={"no_parameters": True})
