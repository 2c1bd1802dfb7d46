"""A slide's result is a chain of versions that nothing changes, and what it counts has a history.

Counts (slide_report, differential) and calls are only ever added. A redo moves the calls that it replaces to former_call. A
result names the count that it reports, its state, and why it differs from the version before.
"""

from alembic import op

revision = "0010"
down_revision = "0009"

# constants of this file, not anybody's input
# ruff: noqa: S608
CLASSES = "'basophil', 'eosinophil', 'erythroblast', 'ig', 'lymphocyte', 'monocyte', 'neutrophil', 'platelet'"
LINES = (
    f"{CLASSES}, 'unclassified', 'contested', 'VLY', 'BL', 'PLY', 'PC', 'LGLY', 'HC', 'SEC', 'PMO', 'IBO', 'IEO', 'SMU', "
    "'GT', 'TAG', 'ART', 'MEK', 'NC', 'OTH'"
)

FACTS = """
ALTER TABLE bloodcell.slide ADD COLUMN age_months INTEGER, ADD COLUMN sex TEXT,
    ADD COLUMN wbc_10e9_per_l FLOAT, ADD COLUMN wbc_is_corrected BOOLEAN,
    ADD CONSTRAINT slide_age CHECK (age_months BETWEEN 0 AND 1559),
    ADD CONSTRAINT slide_sex CHECK (sex IN ('female', 'male')),
    ADD CONSTRAINT slide_wbc CHECK (wbc_10e9_per_l > 0);
GRANT INSERT (age_months, sex, wbc_10e9_per_l, wbc_is_corrected),
    UPDATE (age_months, sex, wbc_10e9_per_l, wbc_is_corrected) ON bloodcell.slide TO bloodcell_app;

CREATE TABLE bloodcell.laboratory_rules (
    rules_digest VARCHAR(64) NOT NULL,
    version TEXT NOT NULL,
    document JSONB NOT NULL,
    first_used_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (rules_digest)
);
"""

COUNTS = (
    """
CREATE TEMP TABLE former_report ON COMMIT DROP AS SELECT * FROM bloodcell.slide_report;
CREATE TEMP TABLE former_differential ON COMMIT DROP AS SELECT * FROM bloodcell.differential;
DROP TABLE bloodcell.differential;
DROP TABLE bloodcell.slide_report;

CREATE TABLE bloodcell.slide_report (
    report_id BIGINT GENERATED ALWAYS AS IDENTITY,
    slide_id BIGINT NOT NULL,
    model_id VARCHAR(64) NOT NULL,
    number INTEGER NOT NULL,
    n_cells INTEGER NOT NULL,
    n_leucocytes INTEGER NOT NULL,
    n_other_leucocytes INTEGER NOT NULL,
    n_unverified INTEGER NOT NULL,
    n_blasts INTEGER NOT NULL,
    n_unclassified INTEGER NOT NULL,
    n_contested INTEGER NOT NULL,
    n_labelled INTEGER NOT NULL,
    n_labels INTEGER NOT NULL,
    is_sufficient BOOLEAN NOT NULL,
    nrbc_per_100_wbc FLOAT,
    nrbc_lower FLOAT,
    nrbc_upper FLOAT,
    n_compared INTEGER NOT NULL,
    n_agree INTEGER NOT NULL,
    age_months INTEGER,
    sex TEXT,
    wbc_received FLOAT,
    wbc_is_corrected BOOLEAN,
    wbc_10e9_per_l FLOAT,
    rules_digest VARCHAR(64),
    calls_digest VARCHAR(64),
    labels_digest VARCHAR(64),
    called_at TIMESTAMP WITH TIME ZONE,
    run_id UUID NOT NULL,
    written_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (report_id),
    CONSTRAINT slide_report_number UNIQUE (slide_id, model_id, number),
    FOREIGN KEY(slide_id) REFERENCES bloodcell.slide (slide_id),
    FOREIGN KEY(model_id) REFERENCES bloodcell.model (model_id),
    FOREIGN KEY(rules_digest) REFERENCES bloodcell.laboratory_rules (rules_digest),
    FOREIGN KEY(run_id) REFERENCES bloodcell.run (run_id)
);
CREATE TABLE bloodcell.differential (
    report_id BIGINT NOT NULL,
    class TEXT NOT NULL,
    n_cells INTEGER NOT NULL,
    n_labelled INTEGER NOT NULL,
    n_unverified INTEGER NOT NULL,
    percentage FLOAT,
    lower FLOAT,
    upper FLOAT,
    bound_lower FLOAT,
    bound_upper FLOAT,
    absolute FLOAT,
    absolute_lower FLOAT,
    absolute_upper FLOAT,
    flag TEXT,
    PRIMARY KEY (report_id, class),
    FOREIGN KEY(report_id) REFERENCES bloodcell.slide_report (report_id),
    CONSTRAINT differential_class CHECK (class IN ("""
    + LINES
    + """))
);

INSERT INTO bloodcell.slide_report (slide_id, model_id, number, n_cells, n_leucocytes, n_other_leucocytes, n_unverified,
    n_blasts, n_unclassified, n_contested, n_labelled, n_labels, is_sufficient, nrbc_per_100_wbc, nrbc_lower, nrbc_upper,
    n_compared, n_agree, run_id, written_at)
SELECT slide_id, model_id, 1, n_cells, n_leucocytes, 0, 0, 0, n_unclassified, 0, 0, 0, is_sufficient, nrbc_per_100_wbc,
    nrbc_lower, nrbc_upper, n_compared, n_agree, run_id, written_at
FROM former_report ORDER BY slide_id, model_id;
INSERT INTO bloodcell.differential (report_id, class, n_cells, n_labelled, n_unverified, percentage, lower, upper, flag)
SELECT r.report_id, d.class, d.n_cells, 0, 0, d.percentage, d.lower, d.upper, d.flag
FROM former_differential d JOIN bloodcell.slide_report r USING (slide_id, model_id);
GRANT SELECT, INSERT ON bloodcell.slide_report, bloodcell.differential TO bloodcell_app;
"""
)

RESULTS = """
CREATE TABLE bloodcell.result (
    result_id BIGINT GENERATED ALWAYS AS IDENTITY,
    slide_id BIGINT NOT NULL,
    number INTEGER NOT NULL,
    state TEXT NOT NULL,
    report_id BIGINT NOT NULL,
    causes TEXT[] NOT NULL,
    withheld_for TEXT[] NOT NULL,
    review_for TEXT[] NOT NULL,
    digest VARCHAR(64),
    made_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    run_id UUID,
    signed_by TEXT,
    reason TEXT,
    recorded_by TEXT DEFAULT session_user NOT NULL,
    PRIMARY KEY (result_id),
    CONSTRAINT result_number UNIQUE (slide_id, number),
    FOREIGN KEY(slide_id) REFERENCES bloodcell.slide (slide_id),
    FOREIGN KEY(report_id) REFERENCES bloodcell.slide_report (report_id),
    FOREIGN KEY(run_id) REFERENCES bloodcell.run (run_id),
    CONSTRAINT result_state CHECK (state IN ('machine', 'withheld', 'final', 'amended', 'corrected')),
    CONSTRAINT result_withheld CHECK ((state <> 'machine' OR withheld_for = '{}') AND (state <> 'withheld' OR withheld_for <> '{}')),
    CONSTRAINT result_signed CHECK ((state IN ('final', 'amended', 'corrected')) = (signed_by IS NOT NULL)),
    CONSTRAINT result_made_by CHECK ((run_id IS NULL) = (signed_by IS NOT NULL)),
    CONSTRAINT result_reason CHECK (state NOT IN ('amended', 'corrected') OR length(trim(reason)) > 0)
);
CREATE INDEX ix_bloodcell_result_report_id ON bloodcell.result (report_id);

-- what was reported until now: the model that was champion when the calls were added up
INSERT INTO bloodcell.result (slide_id, number, state, report_id, causes, withheld_for, review_for, made_at, run_id)
SELECT DISTINCT ON (r.slide_id) r.slide_id, 1, 'machine', r.report_id, '{first}', '{}', '{}', r.written_at, r.run_id
FROM bloodcell.slide_report r JOIN bloodcell.promotion p USING (model_id)
WHERE p.promoted_at <= r.written_at
ORDER BY r.slide_id, p.promotion_id DESC;
"""

CALLS = """
CREATE TABLE bloodcell.former_call (
    cell_id BIGINT NOT NULL,
    model_id VARCHAR(64) NOT NULL,
    night DATE NOT NULL,
    called_class TEXT NOT NULL,
    top_class TEXT NOT NULL,
    unclassified_reason TEXT,
    confidence REAL NOT NULL,
    novelty REAL NOT NULL,
    p_basophil REAL NOT NULL,
    p_eosinophil REAL NOT NULL,
    p_erythroblast REAL NOT NULL,
    p_ig REAL NOT NULL,
    p_lymphocyte REAL NOT NULL,
    p_monocyte REAL NOT NULL,
    p_neutrophil REAL NOT NULL,
    p_platelet REAL NOT NULL,
    run_id UUID NOT NULL,
    called_at TIMESTAMP WITH TIME ZONE NOT NULL,
    replaced_by UUID NOT NULL,
    replaced_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (night, cell_id, model_id, replaced_by),
    FOREIGN KEY(cell_id, night) REFERENCES bloodcell.cell (cell_id, night),
    FOREIGN KEY(model_id) REFERENCES bloodcell.model (model_id),
    FOREIGN KEY(run_id) REFERENCES bloodcell.run (run_id),
    FOREIGN KEY(replaced_by) REFERENCES bloodcell.run (run_id)
);

CREATE FUNCTION bloodcell.replace_calls(cells bigint[], nights date[], models text[], by_run uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- in the order of the key, so that two redos of the same cells cannot deadlock
    PERFORM FROM bloodcell.cell_call k
    JOIN unnest(cells, nights, models) AS r (cell_id, night, model_id) USING (cell_id, night, model_id)
    ORDER BY k.night, k.cell_id, k.model_id FOR UPDATE OF k;
    PERFORM set_config('bloodcell.replacing', 'on', true);
    WITH replaced AS (
        DELETE FROM bloodcell.cell_call k USING unnest(cells, nights, models) AS r (cell_id, night, model_id)
        WHERE (k.night, k.cell_id, k.model_id) = (r.night, r.cell_id, r.model_id) AND k.run_id <> by_run
        RETURNING k.*
    )
    INSERT INTO bloodcell.former_call (cell_id, model_id, night, called_class, top_class, unclassified_reason, confidence,
        novelty, p_basophil, p_eosinophil, p_erythroblast, p_ig, p_lymphocyte, p_monocyte, p_neutrophil, p_platelet, run_id,
        called_at, replaced_by)
    SELECT cell_id, model_id, night, called_class, top_class, unclassified_reason, confidence, novelty, p_basophil,
        p_eosinophil, p_erythroblast, p_ig, p_lymphocyte, p_monocyte, p_neutrophil, p_platelet, run_id, called_at, by_run
    FROM replaced;
    PERFORM set_config('bloodcell.replacing', 'off', true);
END $$;
REVOKE ALL ON FUNCTION bloodcell.replace_calls(bigint[], date[], text[], uuid) FROM PUBLIC;
COMMENT ON FUNCTION bloodcell.replace_calls(bigint[], date[], text[], uuid) IS
    'Moves the calls that a redo replaces to former_call. The new calls have to follow in the same transaction.';

CREATE FUNCTION bloodcell.refuse_missing_call() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM bloodcell.cell_call k WHERE (k.night, k.cell_id, k.model_id) = (NEW.night, NEW.cell_id, NEW.model_id))
       AND EXISTS (SELECT FROM bloodcell.former_call f
                   WHERE (f.night, f.cell_id, f.model_id) = (NEW.night, NEW.cell_id, NEW.model_id)) THEN
        RAISE EXCEPTION 'A call was replaced without a new one' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION bloodcell.refuse_missing_call() FROM PUBLIC;
COMMENT ON FUNCTION bloodcell.refuse_missing_call() IS 'Refuses to replace a call without a new one.';
CREATE CONSTRAINT TRIGGER has_new_call AFTER INSERT ON bloodcell.former_call
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION bloodcell.refuse_missing_call();
"""

HISTORY = """
CREATE OR REPLACE FUNCTION bloodcell.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- an erasure deletes a patient's rows and blanks names in texts; its own record is never changed
    IF (TG_OP = 'DELETE' AND TG_TABLE_NAME IN ('label', 'checked_cell', 'data_split', 'dataset_image', 'drop_file_history',
                                             'slide_withdrawal', 'cell_call', 'former_call', 'slide_report', 'differential',
                                             'result')
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
DO $$ DECLARE name text; BEGIN
    FOREACH name IN ARRAY ARRAY['cell_call', 'former_call', 'slide_report', 'differential', 'result', 'laboratory_rules'] LOOP
        EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON bloodcell.%I '
                       'FOR EACH STATEMENT EXECUTE FUNCTION bloodcell.refuse_change()', name);
    END LOOP;
END $$;
REVOKE UPDATE ON bloodcell.cell_call FROM bloodcell_app;
GRANT SELECT, INSERT ON bloodcell.laboratory_rules TO bloodcell_app;
GRANT SELECT ON bloodcell.result, bloodcell.former_call TO bloodcell_app;
-- the app counts; only a person's login signs
GRANT INSERT (slide_id, number, state, report_id, causes, withheld_for, review_for, digest, run_id) ON bloodcell.result
    TO bloodcell_app;
GRANT EXECUTE ON FUNCTION bloodcell.replace_calls(bigint[], date[], text[], uuid) TO bloodcell_app;
"""

CHAIN = """
ALTER TABLE bloodcell.slide_report ADD CONSTRAINT slide_report_of_slide UNIQUE (report_id, slide_id);
ALTER TABLE bloodcell.result ADD CONSTRAINT result_of_slide
    FOREIGN KEY (report_id, slide_id) REFERENCES bloodcell.slide_report (report_id, slide_id);

CREATE FUNCTION bloodcell.require_next_version() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    newest integer;
BEGIN
    PERFORM FROM bloodcell.slide WHERE slide_id = NEW.slide_id FOR NO KEY UPDATE;
    SELECT coalesce(max(number), 0) INTO newest FROM bloodcell.result WHERE slide_id = NEW.slide_id;
    IF NEW.number <> newest + 1 THEN
        RAISE EXCEPTION 'Version % cannot follow version % of slide_id %', NEW.number, newest, NEW.slide_id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
REVOKE ALL ON FUNCTION bloodcell.require_next_version() FROM PUBLIC;
COMMENT ON FUNCTION bloodcell.require_next_version() IS 'Refuses a version of a result that does not follow the newest one.';
CREATE TRIGGER next_version BEFORE INSERT ON bloodcell.result
    FOR EACH ROW EXECUTE FUNCTION bloodcell.require_next_version();

CREATE FUNCTION bloodcell.refuse_lines_of_others() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM new_lines n JOIN bloodcell.slide_report r USING (report_id)
               WHERE r.written_at <> transaction_timestamp()
                  OR EXISTS (SELECT FROM bloodcell.result v WHERE v.report_id = n.report_id)) THEN
        RAISE EXCEPTION 'Lines can be added only to a count of the same transaction that no result names yet'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION bloodcell.refuse_lines_of_others() FROM PUBLIC;
COMMENT ON FUNCTION bloodcell.refuse_lines_of_others() IS 'Refuses to add a line to a count that was written before.';
CREATE TRIGGER own_lines AFTER INSERT ON bloodcell.differential REFERENCING NEW TABLE AS new_lines
    FOR EACH STATEMENT EXECUTE FUNCTION bloodcell.refuse_lines_of_others();
REVOKE INSERT ON bloodcell.slide_report FROM bloodcell_app;
GRANT INSERT (slide_id, model_id, number, n_cells, n_leucocytes, n_other_leucocytes, n_unverified, n_blasts, n_unclassified,
    n_contested, n_labelled, n_labels, is_sufficient, nrbc_per_100_wbc, nrbc_lower, nrbc_upper, n_compared, n_agree,
    age_months, sex, wbc_received, wbc_is_corrected, wbc_10e9_per_l, rules_digest, calls_digest, labels_digest, called_at,
    run_id) ON bloodcell.slide_report TO bloodcell_app;
"""

SIGN = """
CREATE FUNCTION bloodcell.sign_result(a_barcode text, a_number integer, a_state text, a_reason text) RETURNS integer
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
REVOKE ALL ON FUNCTION bloodcell.sign_result(text, integer, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION bloodcell.sign_result(text, integer, text, text) TO bloodcell_reviewer;
COMMENT ON FUNCTION bloodcell.sign_result(text, integer, text, text) IS
    'Signs the newest version of a slide''s result as the login that calls it, and returns the number of the signed version.';
"""

DOWNGRADE = (
    """
DO $$ BEGIN
    IF EXISTS (SELECT FROM bloodcell.result WHERE number > 1 OR digest IS NOT NULL)
       OR EXISTS (SELECT FROM bloodcell.former_call)
       OR EXISTS (SELECT FROM bloodcell.slide WHERE coalesce(age_months::float, wbc_10e9_per_l) IS NOT NULL OR sex IS NOT NULL)
    THEN
        RAISE EXCEPTION 'Results were made with this schema, and the former one cannot hold what they say'
            USING HINT = 'Stay with this release, or restore the backup that was made before the upgrade.';
    END IF;
END $$;
DROP FUNCTION bloodcell.sign_result(text, integer, text, text);
DROP TABLE bloodcell.result;
DROP FUNCTION bloodcell.require_next_version();
DROP TABLE bloodcell.former_call;
DROP FUNCTION bloodcell.refuse_missing_call();
DROP FUNCTION bloodcell.replace_calls(bigint[], date[], text[], uuid);
DROP TRIGGER append_only ON bloodcell.cell_call;
CREATE OR REPLACE FUNCTION bloodcell.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- an erasure deletes a patient's rows and blanks names in texts; its own record is never changed
    IF (TG_OP = 'DELETE' AND TG_TABLE_NAME IN ('label', 'checked_cell', 'data_split', 'dataset_image', 'drop_file_history',
                                             'slide_withdrawal')
        OR TG_OP = 'UPDATE' AND TG_TABLE_NAME IN ('label', 'label_file', 'promotion', 'approval_answer', 'drop_file_history',
                                              'slide_withdrawal'))
       AND EXISTS (SELECT FROM bloodcell.erasure WHERE erased_at = transaction_timestamp()) THEN
        RETURN NULL;
    END IF;
    -- the app may call forget_snapshot, which checks that nothing uses the snapshot; it may not delete by itself
    IF TG_OP = 'DELETE' AND TG_TABLE_NAME = 'dataset_image' AND current_setting('bloodcell.forgetting', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION '% on bloodcell.% is refused: the table is append-only', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege', HINT = 'Add a new row that supersedes the earlier one.';
END $$;
GRANT UPDATE ON bloodcell.cell_call TO bloodcell_app;

-- the former schema holds one count for each slide and model, of the eight classes
CREATE TEMP TABLE kept_report ON COMMIT DROP AS
SELECT DISTINCT ON (slide_id, model_id) * FROM bloodcell.slide_report ORDER BY slide_id, model_id, number DESC;
CREATE TEMP TABLE kept_differential ON COMMIT DROP AS
SELECT r.slide_id, r.model_id, d.* FROM bloodcell.differential d JOIN kept_report r USING (report_id)
WHERE d.class IN ("""
    + CLASSES
    + """, 'unclassified');
DROP TABLE bloodcell.differential;
DROP FUNCTION bloodcell.refuse_lines_of_others();
DROP TABLE bloodcell.slide_report;
CREATE TABLE bloodcell.slide_report (
    slide_id BIGINT NOT NULL,
    model_id VARCHAR(64) NOT NULL,
    n_cells INTEGER NOT NULL,
    n_leucocytes INTEGER NOT NULL,
    n_unclassified INTEGER NOT NULL,
    is_sufficient BOOLEAN NOT NULL,
    nrbc_per_100_wbc FLOAT,
    nrbc_lower FLOAT,
    nrbc_upper FLOAT,
    n_compared INTEGER NOT NULL,
    n_agree INTEGER NOT NULL,
    run_id UUID NOT NULL,
    written_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (slide_id, model_id),
    FOREIGN KEY(slide_id) REFERENCES bloodcell.slide (slide_id),
    FOREIGN KEY(model_id) REFERENCES bloodcell.model (model_id),
    FOREIGN KEY(run_id) REFERENCES bloodcell.run (run_id)
);
CREATE TABLE bloodcell.differential (
    slide_id BIGINT NOT NULL,
    model_id VARCHAR(64) NOT NULL,
    class TEXT NOT NULL,
    n_cells INTEGER NOT NULL,
    percentage FLOAT,
    lower FLOAT,
    upper FLOAT,
    flag TEXT,
    PRIMARY KEY (slide_id, model_id, class),
    FOREIGN KEY(slide_id, model_id) REFERENCES bloodcell.slide_report (slide_id, model_id) ON DELETE CASCADE,
    CONSTRAINT differential_class CHECK (class IN ("""
    + CLASSES
    + """, 'unclassified'))
);
INSERT INTO bloodcell.slide_report
SELECT slide_id, model_id, n_cells, n_leucocytes, n_unclassified, is_sufficient, nrbc_per_100_wbc, nrbc_lower, nrbc_upper,
    n_compared, n_agree, run_id, written_at
FROM kept_report;
INSERT INTO bloodcell.differential
SELECT slide_id, model_id, class, n_cells, percentage, lower, upper, flag FROM kept_differential;
GRANT SELECT, INSERT, UPDATE ON bloodcell.slide_report, bloodcell.differential TO bloodcell_app;
DROP TABLE bloodcell.laboratory_rules;
REVOKE INSERT (age_months, sex, wbc_10e9_per_l, wbc_is_corrected),
    UPDATE (age_months, sex, wbc_10e9_per_l, wbc_is_corrected) ON bloodcell.slide FROM bloodcell_app;
ALTER TABLE bloodcell.slide DROP COLUMN age_months, DROP COLUMN sex, DROP COLUMN wbc_10e9_per_l, DROP COLUMN wbc_is_corrected;
"""
)


def upgrade() -> None:
    for script in (FACTS, COUNTS, RESULTS, CALLS, HISTORY, CHAIN, SIGN):
        op.get_bind().exec_driver_sql(script, execution_options={"no_parameters": True})


def downgrade() -> None:
    op.get_bind().exec_driver_sql(DOWNGRADE, execution_options={"no_parameters": True})
