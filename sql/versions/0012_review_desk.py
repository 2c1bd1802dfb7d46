"""The review desk: sessions of people, who opened which slide, comments, leases, and signatures of people at the desk.

The desk authenticates a person and opens a session. Everything that the person then writes names the session; the database
looks the person up itself, so that no request can write in another person's name.
"""

from alembic import op

revision = "0012"
down_revision = "0011"

TABLES = """
CREATE TABLE bloodcell.desk_session (
    session_id BIGINT GENERATED ALWAYS AS IDENTITY NOT NULL,
    token_digest VARCHAR(64) NOT NULL,
    person TEXT NOT NULL,
    roles TEXT[] NOT NULL,
    method TEXT NOT NULL,
    stamp TEXT,
    idle_s INTEGER NOT NULL,
    opened_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    seen_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    proved_at TIMESTAMP WITH TIME ZONE,
    ended_at TIMESTAMP WITH TIME ZONE,
    ended_for TEXT,
    PRIMARY KEY (session_id),
    CONSTRAINT desk_session_token UNIQUE (token_digest),
    CONSTRAINT desk_session_person CHECK (length(trim(person)) > 0),
    CONSTRAINT desk_session_roles CHECK (roles <@ ARRAY['viewer', 'reader', 'senior', 'administrator']),
    CONSTRAINT desk_session_method CHECK (method IN ('local', 'link', 'ldap', 'oidc')),
    CONSTRAINT desk_session_ended CHECK ((ended_at IS NULL) = (ended_for IS NULL)),
    CONSTRAINT desk_session_ended_for CHECK (ended_for IN ('log_out', 'everywhere', 'administrator'))
);
CREATE INDEX ix_bloodcell_desk_session_person ON bloodcell.desk_session (lower(person));

CREATE TABLE bloodcell.slide_opening (
    opening_id BIGINT GENERATED ALWAYS AS IDENTITY NOT NULL,
    slide_id BIGINT NOT NULL,
    session_id BIGINT NOT NULL,
    person TEXT NOT NULL,
    opened_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    PRIMARY KEY (opening_id),
    CONSTRAINT slide_opening_once UNIQUE (slide_id, session_id),
    FOREIGN KEY(slide_id) REFERENCES bloodcell.slide (slide_id),
    FOREIGN KEY(session_id) REFERENCES bloodcell.desk_session (session_id)
);

CREATE TABLE bloodcell.slide_comment (
    comment_id BIGINT GENERATED ALWAYS AS IDENTITY NOT NULL,
    slide_id BIGINT NOT NULL,
    cell_id BIGINT,
    text TEXT NOT NULL,
    person TEXT NOT NULL,
    session_id BIGINT NOT NULL,
    client_key UUID NOT NULL,
    written_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    PRIMARY KEY (comment_id),
    CONSTRAINT slide_comment_key UNIQUE (client_key),
    CONSTRAINT slide_comment_text CHECK (length(trim(text)) BETWEEN 1 AND 4000),
    FOREIGN KEY(slide_id) REFERENCES bloodcell.slide (slide_id),
    FOREIGN KEY(cell_id) REFERENCES bloodcell.cell (cell_id),
    FOREIGN KEY(session_id) REFERENCES bloodcell.desk_session (session_id)
);
CREATE INDEX ix_bloodcell_slide_comment_slide_id ON bloodcell.slide_comment (slide_id);

CREATE TABLE bloodcell.slide_lease (
    slide_id BIGINT NOT NULL,
    session_id BIGINT NOT NULL,
    person TEXT NOT NULL,
    taken_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    held_until TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (slide_id),
    FOREIGN KEY(slide_id) REFERENCES bloodcell.slide (slide_id),
    FOREIGN KEY(session_id) REFERENCES bloodcell.desk_session (session_id)
);

ALTER TABLE bloodcell.label ADD COLUMN is_retraction BOOLEAN DEFAULT false NOT NULL;
ALTER TABLE bloodcell.label ADD COLUMN session_id BIGINT REFERENCES bloodcell.desk_session (session_id);
ALTER TABLE bloodcell.label ADD COLUMN client_key UUID;
ALTER TABLE bloodcell.label ADD CONSTRAINT label_client_key UNIQUE (client_key);
CREATE INDEX label_of_person ON bloodcell.label (cell_id, lower(labelled_by), labelled_at);
ALTER TABLE bloodcell.label DROP CONSTRAINT label_source;
ALTER TABLE bloodcell.label ADD CONSTRAINT label_source CHECK (source IN ('csv', 'folder', 'view', 'desk'));
ALTER TABLE bloodcell.label DROP CONSTRAINT label_not_empty;
ALTER TABLE bloodcell.label ADD CONSTRAINT label_not_empty
    CHECK (is_retraction = (class IS NULL AND sub_label IS NULL));
ALTER TABLE bloodcell.label ADD CONSTRAINT label_of_session
    CHECK ((source = 'desk') = (session_id IS NOT NULL) AND (session_id IS NULL) = (client_key IS NULL));
ALTER TABLE bloodcell.result ADD COLUMN session_id BIGINT REFERENCES bloodcell.desk_session (session_id);
ALTER TABLE bloodcell.result ADD CONSTRAINT result_of_session CHECK (session_id IS NULL OR signed_by IS NOT NULL);
"""

REFUSE_CHANGE = """
CREATE OR REPLACE FUNCTION bloodcell.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- an erasure deletes a patient's rows and blanks names in texts; its own record is never changed
    IF (TG_OP = 'DELETE' AND TG_TABLE_NAME IN ('label', 'checked_cell', 'data_split', 'dataset_image', 'drop_file_history',
                                             'slide_withdrawal', 'cell_call', 'former_call', 'slide_report', 'differential',
                                             'result', 'sampled_cell', 'slide_opening', 'slide_comment')
        OR TG_OP = 'UPDATE' AND TG_TABLE_NAME IN ('label', 'label_file', 'promotion', 'approval_answer', 'drop_file_history',
                                              'slide_withdrawal', 'result', 'slide_comment'))
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

RULES = """
DO $$ DECLARE name text; BEGIN
    FOREACH name IN ARRAY ARRAY['slide_opening', 'slide_comment'] LOOP
        EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON bloodcell.%I '
                       'FOR EACH STATEMENT EXECUTE FUNCTION bloodcell.refuse_change()', name);
    END LOOP;
END $$;
GRANT USAGE ON SCHEMA bloodcell TO bloodcell_desk;

-- Which cells a second person has to read is said by the laboratory's rules. A cell has been read twice if the labels of two
-- people stand and agree, one of whom is a senior who labelled it at the desk; an adjudication is a third person's.
CREATE FUNCTION bloodcell.cells_for_second_reader(a_slide bigint, a_rules text) RETURNS TABLE (cell_id bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- LATERAL, so that only the labels of these cells are read
    RETURN QUERY SELECT o.cell_id
    FROM bloodcell.laboratory_rules r
    JOIN bloodcell.cell o ON o.slide_id = a_slide
    CROSS JOIN LATERAL (SELECT * FROM bloodcell.current_label l WHERE l.cell_id = o.cell_id LIMIT 1) c
    WHERE r.rules_digest = a_rules
      AND (r.document #> '{second_reader,blasts}' = 'true' OR r.document #> '{second_reader,out_of_scope}' = 'true')
      AND NOT c.is_adjudicated AND c.state = 'out_of_scope'
      AND (c.n_people < 2 OR NOT EXISTS (
          SELECT FROM bloodcell.standing_label n JOIN bloodcell.label l USING (label_id)
          JOIN bloodcell.desk_session d USING (session_id)
          WHERE n.cell_id = o.cell_id AND 'senior' = ANY (d.roles)))
      AND (r.document #> '{second_reader,blasts}' = 'true' AND c.sub_label = 'BL'
           OR r.document #> '{second_reader,out_of_scope}' = 'true');
END $$;
COMMENT ON FUNCTION bloodcell.cells_for_second_reader(bigint, text) IS
    'Cells of a slide that the laboratory''s rules want read by a second person, and that two people, one of them a senior, have not read.';

-- What signing needs is said only here: the desk shows it, and the signature is refused for it.
CREATE FUNCTION bloodcell.missing_for_signature(a_slide bigint, a_report bigint)
RETURNS TABLE (what text, told text, n bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    counted bloodcell.slide_report;
BEGIN
    SELECT * INTO counted FROM bloodcell.slide_report r WHERE r.report_id = a_report AND r.slide_id = a_slide;
    RETURN QUERY SELECT m.* FROM (
        SELECT 'cells' AS what, 'cells not counted yet' AS told, count(*) - counted.n_cells AS n
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
REVOKE ALL ON FUNCTION bloodcell.missing_for_signature(bigint, bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION bloodcell.cells_for_second_reader(bigint, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION bloodcell.missing_for_signature(bigint, bigint) TO bloodcell_app, bloodcell_desk;
GRANT EXECUTE ON FUNCTION bloodcell.cells_for_second_reader(bigint, text) TO bloodcell_app, bloodcell_desk;
COMMENT ON FUNCTION bloodcell.missing_for_signature(bigint, bigint) IS
    'What a person has to do before this count of a slide can be signed.';

CREATE FUNCTION bloodcell.sign_newest(a_barcode text, a_number integer, a_state text, a_reason text, a_person text,
                                      a_session bigint) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    signed_slide bloodcell.slide;
    newest bloodcell.result;
    was_signed boolean;
    missing text[] := '{}';
BEGIN
    IF bloodcell.has_invisible(a_reason) THEN
        RAISE EXCEPTION 'The reason has characters that nobody sees' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    -- two people who sign at once, and a run that makes a version, come one after the other
    SELECT * INTO signed_slide FROM bloodcell.slide WHERE barcode = normalize(a_barcode) AND withdrawn_at IS NULL
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'No slide that stands has the barcode %', a_barcode USING ERRCODE = 'no_data_found';
    END IF;
    SELECT * INTO newest FROM bloodcell.result WHERE slide_id = signed_slide.slide_id ORDER BY number DESC LIMIT 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'Slide % has no result yet', a_barcode USING ERRCODE = 'no_data_found';
    END IF;
    IF newest.digest IS NULL THEN
        RAISE EXCEPTION 'Slide % was counted by an earlier release, without review rules', a_barcode
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Count it again: bloodcell classify --slide.';
    END IF;
    IF newest.number IS DISTINCT FROM a_number THEN
        RAISE EXCEPTION 'Version % of slide % is not the newest: that is version % (%), made at %',
            a_number, a_barcode, newest.number, newest.state, newest.made_at
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Look at the newest version, then sign it.';
    END IF;
    IF newest.signed_by IS NOT NULL THEN
        RAISE EXCEPTION 'Version % of slide % was signed by % at %', a_number, a_barcode, newest.signed_by, newest.made_at
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    was_signed := EXISTS (SELECT FROM bloodcell.result r WHERE r.slide_id = newest.slide_id AND r.signed_by IS NOT NULL);
    IF was_signed AND (a_state NOT IN ('amended', 'corrected') OR coalesce(length(trim(a_reason)), 0) = 0) THEN
        RAISE EXCEPTION 'Slide % was signed before: say whether the result is amended or corrected, and why', a_barcode
            USING ERRCODE = 'object_not_in_prerequisite_state';
    ELSIF NOT was_signed AND a_state <> 'final' THEN
        RAISE EXCEPTION 'Slide % has not been signed before: its first signed result is final', a_barcode
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    SELECT coalesce(array_agg(format('%s: %s', m.told, m.n)), '{}') INTO missing
    FROM bloodcell.missing_for_signature(newest.slide_id, newest.report_id) m;
    IF cardinality(missing) > 0 THEN
        RAISE EXCEPTION 'Slide % cannot be signed yet: %', a_barcode, array_to_string(missing, '; ')
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    INSERT INTO bloodcell.result (slide_id, number, state, report_id, causes, withheld_for, review_for, digest, signed_by,
                                  reason, session_id)
    VALUES (newest.slide_id, newest.number + 1, a_state, newest.report_id, '{signature}', newest.withheld_for,
            newest.review_for, newest.digest, a_person, nullif(trim(a_reason), ''), a_session);
    RETURN newest.number + 1;
END $$;
REVOKE ALL ON FUNCTION bloodcell.sign_newest(text, integer, text, text, text, bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION bloodcell.cells_for_second_reader(bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION bloodcell.sign_newest(text, integer, text, text, text, bigint) IS
    'Signs the newest version of a slide''s result as a person whom the caller has identified; no role may call it itself.';

CREATE OR REPLACE FUNCTION bloodcell.sign_result(a_barcode text, a_number integer, a_state text, a_reason text) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- a signature is a person's: the service and the superuser may do anything else
    IF pg_has_role(session_user, 'bloodcell_app', 'MEMBER') OR pg_has_role(session_user, 'bloodcell_owner', 'MEMBER')
       OR pg_has_role(session_user, 'bloodcell_desk', 'MEMBER') THEN
        RAISE EXCEPTION 'The login % may do the work of the service, so its signature would name no person', session_user
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN bloodcell.sign_newest(a_barcode, a_number, a_state, a_reason, session_user, NULL);
END $$;
"""

DOWNGRADE = (
    """
DO $$ BEGIN
    IF EXISTS (SELECT FROM bloodcell.desk_session) THEN
        RAISE EXCEPTION 'People have worked at the review desk, and the former schema cannot hold what they wrote'
            USING HINT = 'Stay with this release, or restore the backup that was made before the upgrade.';
    END IF;
END $$;
CREATE OR REPLACE FUNCTION bloodcell.sign_result(a_barcode text, a_number integer, a_state text, a_reason text) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    signed_slide bloodcell.slide;
    newest bloodcell.result;
    counted bloodcell.slide_report;
    was_signed boolean;
    missing text[] := '{}';
    n bigint;
BEGIN
    -- a signature is a person's: the service and the superuser may do anything else
    IF pg_has_role(session_user, 'bloodcell_app', 'MEMBER') OR pg_has_role(session_user, 'bloodcell_owner', 'MEMBER') THEN
        RAISE EXCEPTION 'The login % may do the work of the service, so its signature would name no person', session_user
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF bloodcell.has_invisible(a_reason) THEN
        RAISE EXCEPTION 'The reason has characters that nobody sees' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    -- two people who sign at once, and a run that makes a version, come one after the other
    SELECT * INTO signed_slide FROM bloodcell.slide WHERE barcode = normalize(a_barcode) AND withdrawn_at IS NULL
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'No slide that stands has the barcode %', a_barcode USING ERRCODE = 'no_data_found';
    END IF;
    SELECT * INTO newest FROM bloodcell.result WHERE slide_id = signed_slide.slide_id ORDER BY number DESC LIMIT 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'Slide % has no result yet', a_barcode USING ERRCODE = 'no_data_found';
    END IF;
    IF newest.digest IS NULL THEN
        RAISE EXCEPTION 'Slide % was counted by an earlier release, without review rules', a_barcode
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Count it again: bloodcell classify --slide.';
    END IF;
    IF newest.number IS DISTINCT FROM a_number THEN
        RAISE EXCEPTION 'Version % of slide % is not the newest: that is version % (%), made at %',
            a_number, a_barcode, newest.number, newest.state, newest.made_at
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Look at the newest version, then sign it.';
    END IF;
    IF newest.signed_by IS NOT NULL THEN
        RAISE EXCEPTION 'Version % of slide % was signed by % at %', a_number, a_barcode, newest.signed_by, newest.made_at
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    was_signed := EXISTS (SELECT FROM bloodcell.result r WHERE r.slide_id = newest.slide_id AND r.signed_by IS NOT NULL);
    IF was_signed AND (a_state NOT IN ('amended', 'corrected') OR coalesce(length(trim(a_reason)), 0) = 0) THEN
        RAISE EXCEPTION 'Slide % was signed before: say whether the result is amended or corrected, and why', a_barcode
            USING ERRCODE = 'object_not_in_prerequisite_state';
    ELSIF NOT was_signed AND a_state <> 'final' THEN
        RAISE EXCEPTION 'Slide % has not been signed before: its first signed result is final', a_barcode
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    SELECT * INTO counted FROM bloodcell.slide_report WHERE report_id = newest.report_id;
    SELECT count(*) - counted.n_cells INTO n FROM bloodcell.cell c WHERE c.slide_id = newest.slide_id;
    IF n <> 0 THEN missing := missing || format('cells not counted yet: %s', n); END IF;
    -- a label that changes nothing makes a newer count, and no version
    SELECT count(*) - (SELECT max(r.n_labels) FROM bloodcell.slide_report r WHERE r.slide_id = newest.slide_id) INTO n
    FROM bloodcell.label l JOIN bloodcell.cell c USING (cell_id) WHERE c.slide_id = newest.slide_id;
    IF n <> 0 THEN missing := missing || format('labels not counted yet: %s', n); END IF;
    SELECT coalesce(sum(d.n_cells), 0) INTO n FROM bloodcell.differential d
    WHERE d.report_id = newest.report_id AND d.class = 'unclassified';
    IF n > 0 THEN missing := missing || format('unclassified cells without a label: %s', n); END IF;
    SELECT coalesce(sum(d.n_unverified), 0) INTO n FROM bloodcell.differential d
    WHERE d.report_id = newest.report_id AND d.class = 'BL';
    IF n > 0 THEN missing := missing || format('blasts of the analyser without a label: %s', n); END IF;
    SELECT coalesce(sum(d.n_unverified), 0) INTO n FROM bloodcell.differential d
    WHERE d.report_id = newest.report_id AND d.class IN ('NC', 'OTH');
    IF n > 0 THEN missing := missing || format('cells that the analyser could not name, without a label: %s', n); END IF;
    IF counted.n_contested > 0 THEN
        missing := missing || format('contested cells: %s', counted.n_contested);
    END IF;
    IF cardinality(missing) > 0 THEN
        RAISE EXCEPTION 'Slide % cannot be signed yet: %', a_barcode, array_to_string(missing, '; ')
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    INSERT INTO bloodcell.result (slide_id, number, state, report_id, causes, withheld_for, review_for, digest, signed_by,
                                  reason)
    VALUES (newest.slide_id, newest.number + 1, a_state, newest.report_id, '{signature}', newest.withheld_for,
            newest.review_for, newest.digest, session_user, nullif(trim(a_reason), ''));
    RETURN newest.number + 1;
END $$;
"""
    """DROP FUNCTION bloodcell.sign_newest(text, integer, text, text, text, bigint);
DROP FUNCTION bloodcell.missing_for_signature(bigint, bigint);
DROP FUNCTION bloodcell.cells_for_second_reader(bigint, text);
DO $$ DECLARE function regprocedure; BEGIN
    FOR function IN SELECT oid::regprocedure FROM pg_proc
        WHERE pronamespace = 'bloodcell'::regnamespace AND starts_with(proname, 'desk_')
    LOOP
        EXECUTE format('DROP FUNCTION %s', function);
    END LOOP;
END $$;
REVOKE USAGE ON SCHEMA bloodcell FROM bloodcell_desk;
ALTER TABLE bloodcell.result DROP COLUMN session_id;
ALTER TABLE bloodcell.label DROP CONSTRAINT label_of_session;
ALTER TABLE bloodcell.label DROP CONSTRAINT label_not_empty;
ALTER TABLE bloodcell.label ADD CONSTRAINT label_not_empty CHECK (class IS NOT NULL OR sub_label IS NOT NULL);
ALTER TABLE bloodcell.label DROP CONSTRAINT label_source;
ALTER TABLE bloodcell.label ADD CONSTRAINT label_source CHECK (source IN ('csv', 'folder', 'view'));
DROP INDEX bloodcell.label_of_person;
ALTER TABLE bloodcell.label DROP COLUMN is_retraction, DROP COLUMN session_id, DROP COLUMN client_key;
DROP TABLE bloodcell.slide_lease;
DROP TABLE bloodcell.slide_comment;
DROP TABLE bloodcell.slide_opening;
DROP TABLE bloodcell.desk_session;
CREATE OR REPLACE FUNCTION bloodcell.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- an erasure deletes a patient's rows and blanks names in texts; its own record is never changed
    IF (TG_OP = 'DELETE' AND TG_TABLE_NAME IN ('label', 'checked_cell', 'data_split', 'dataset_image', 'drop_file_history',
                                             'slide_withdrawal', 'cell_call', 'former_call', 'slide_report', 'differential',
                                             'result', 'sampled_cell')
        OR TG_OP = 'UPDATE' AND TG_TABLE_NAME IN ('label', 'label_file', 'promotion', 'approval_answer', 'drop_file_history',
                                              'slide_withdrawal', 'result'))
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
)


def upgrade() -> None:
    for script in (TABLES, REFUSE_CHANGE, RULES):
        op.get_bind().exec_driver_sql(script, execution_options={"no_parameters": True})


def downgrade() -> None:
    op.get_bind().exec_driver_sql(DOWNGRADE, execution_options={"no_parameters": True})
