-- Every label as it was entered. Reviewers add labels here: INSERT INTO cell_label (barcode, file_name, label, is_blind) ...
CREATE VIEW bloodcell.cell_label AS
SELECT l.label_id, s.barcode, c.night, c.file_name, c.cell_id, c.sha256, s.patient_key,
       coalesce(l.sub_label, l.class) AS label, l.class, l.sub_label, l.labelled_by, l.labelled_at, l.is_blind,
       l.is_adjudication, l.note, l.source, l.recorded_at, l.recorded_by, l.run_id
FROM bloodcell.label l
JOIN bloodcell.cell c USING (cell_id)
JOIN bloodcell.slide s USING (slide_id);
COMMENT ON VIEW bloodcell.cell_label IS
    'Every label ever given to a cell, as it was entered; a reviewer adds one by an INSERT here.';

-- The rules are those of bloodcell.labels: of a duplicate file the label goes to the cell it repeats.
CREATE OR REPLACE FUNCTION bloodcell.enter_label() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    given text := btrim(NEW.label, E' \t\n\r\f');
    found_cell bigint;
    set_aside text;
BEGIN
    IF NEW.labelled_by IS NOT NULL AND NEW.labelled_by <> session_user THEN
        RAISE EXCEPTION 'labelled_by is %, the login is %', NEW.labelled_by, session_user
            USING ERRCODE = 'insufficient_privilege', HINT = 'Leave labelled_by out: it is the login.';
    END IF;
    IF NEW.cell_id IS NOT NULL THEN
        SELECT c.cell_id INTO found_cell FROM bloodcell.cell c JOIN bloodcell.slide s USING (slide_id)
        WHERE c.cell_id = NEW.cell_id AND s.barcode = coalesce(NEW.barcode, s.barcode)
          AND c.file_name = coalesce(NEW.file_name, c.file_name);
    ELSE
        SELECT c.cell_id INTO found_cell FROM bloodcell.cell c JOIN bloodcell.slide s USING (slide_id)
        WHERE s.barcode = NEW.barcode AND c.file_name = NEW.file_name;
        IF found_cell IS NULL THEN
            SELECT d.cell_id, CASE WHEN d.outcome = 'quarantined' THEN d.reason END INTO found_cell, set_aside
            FROM bloodcell.drop_file d
            WHERE d.barcode = NEW.barcode AND d.path IN (NEW.file_name, NEW.barcode || '/' || NEW.file_name)
              AND d.outcome IN ('duplicate', 'quarantined')
            ORDER BY d.outcome, d.updated_at DESC LIMIT 1;
        END IF;
    END IF;
    IF set_aside IS NOT NULL THEN
        RAISE EXCEPTION 'The file was set aside and is no cell: barcode %, file_name %: %', NEW.barcode, NEW.file_name,
            set_aside USING ERRCODE = 'foreign_key_violation', HINT = 'See the view quarantine_report.';
    END IF;
    IF found_cell IS NULL THEN
        RAISE EXCEPTION 'No such cell: cell_id %, barcode %, file_name %', NEW.cell_id, NEW.barcode, NEW.file_name
            USING ERRCODE = 'foreign_key_violation',
                  HINT = 'Name a cell by cell_id, or by barcode and file_name, as cell_result shows them.';
    END IF;
    SELECT k.class, CASE WHEN k.class IS NULL OR k.code IN ('SNE', 'BNE', 'PMY', 'MY', 'MMY') THEN k.code END
    INTO NEW.class, NEW.sub_label
    FROM bloodcell.cell_code k WHERE k.code = upper(given);
    IF NOT FOUND THEN
        SELECT k.class INTO NEW.class FROM bloodcell.cell_code k WHERE k.class = lower(given) LIMIT 1;
    END IF;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'Unknown label %', NEW.label USING ERRCODE = 'check_violation',
            HINT = 'A class (neutrophil, ig ...) or an analyser code (SNE, BL ...): TABLE bloodcell.label_code.';
    END IF;
    NEW.cell_id := found_cell;
    NEW.label := coalesce(NEW.sub_label, NEW.class);
    NEW.labelled_by := session_user;
    NEW.labelled_at := coalesce(NEW.labelled_at, clock_timestamp());
    IF NEW.labelled_at > clock_timestamp() + interval '5 minutes' THEN
        RAISE EXCEPTION 'labelled_at is in the future: %', NEW.labelled_at USING ERRCODE = 'check_violation',
            HINT = 'Leave labelled_at out: it is now. A time without a zone is read in the session''s TimeZone.';
    END IF;
    NEW.is_blind := coalesce(NEW.is_blind, false);
    NEW.is_adjudication := coalesce(NEW.is_adjudication, false);
    NEW.note := nullif(btrim(NEW.note, E' \t\n\r\f'), '');
    -- the clock's time, not the transaction's: one that is open for long would have its labels in its own future
    INSERT INTO bloodcell.label AS l (cell_id, class, sub_label, labelled_by, labelled_at, is_blind, is_adjudication, note,
                                      source, recorded_at)
    VALUES (found_cell, NEW.class, NEW.sub_label, NEW.labelled_by, NEW.labelled_at, NEW.is_blind, NEW.is_adjudication,
            NEW.note, 'view', clock_timestamp())
    RETURNING l.label_id, l.source, l.recorded_at, l.recorded_by
    INTO NEW.label_id, NEW.source, NEW.recorded_at, NEW.recorded_by;
    RETURN NEW;
END $$;
REVOKE ALL ON FUNCTION bloodcell.enter_label() FROM PUBLIC;
CREATE TRIGGER enter_label INSTEAD OF INSERT ON bloodcell.cell_label
    FOR EACH ROW EXECUTE FUNCTION bloodcell.enter_label();
GRANT INSERT ON bloodcell.cell_label TO bloodcell_reviewer;

-- After a killed import the statistics may say that there is no label, and the next one's 200,000 are joined one by one
-- with each other: minutes instead of 0.2 s.
CREATE OR REPLACE FUNCTION bloodcell.analyze_labels() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    ANALYZE bloodcell.label;
END $$;
REVOKE ALL ON FUNCTION bloodcell.analyze_labels() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION bloodcell.analyze_labels() TO bloodcell_app;
COMMENT ON FUNCTION bloodcell.analyze_labels() IS 'Counts the labels for the planner, those of this transaction too.';

CREATE VIEW bloodcell.label_code AS SELECT code, class, name FROM bloodcell.cell_code;
COMMENT ON VIEW bloodcell.label_code IS 'Codes a cell may be labelled with; class is empty for those outside the eight groups.';

-- Of each person the newest label stands. An adjudication settles all that was said before it; who disagrees later
-- contests the cell again. With NOT EXISTS, not DISTINCT ON: so a question about one slide looks at its labels only.
CREATE VIEW bloodcell.standing_label AS
SELECT l.label_id, l.cell_id, coalesce(l.sub_label, l.class) AS label, l.class, l.sub_label, l.labelled_by, l.labelled_at,
       l.is_blind, l.is_adjudication, l.note
FROM bloodcell.label l
WHERE NOT EXISTS (SELECT 1 FROM bloodcell.label newer WHERE newer.cell_id = l.cell_id
                  AND newer.labelled_by = l.labelled_by AND newer.labelled_at > l.labelled_at)
  AND NOT EXISTS (SELECT 1 FROM bloodcell.label a WHERE a.is_adjudication AND a.cell_id = l.cell_id
                  AND (a.labelled_at, a.label_id) > (l.labelled_at, l.label_id));
COMMENT ON VIEW bloodcell.standing_label IS
    'The labels that stand: of each person the newest of a cell, unless an adjudication came after it.';

-- Two codes outside the eight groups do not disagree: both keep the cell out of training.
CREATE VIEW bloodcell.current_label AS
SELECT s.barcode, c.night, c.file_name, c.cell_id, c.sha256, s.patient_key,
       coalesce(s.patient_key, 'slide:' || s.barcode) AS split_key,
       CASE WHEN min(coalesce(l.class, '')) = max(coalesce(l.class, '')) THEN min(l.class) END AS class,
       CASE WHEN min(coalesce(l.sub_label, '')) = max(coalesce(l.sub_label, '')) THEN min(l.sub_label) END AS sub_label,
       CASE WHEN min(coalesce(l.class, '')) <> max(coalesce(l.class, '')) THEN 'contested'
            WHEN min(l.class) IS NULL THEN 'out_of_scope' ELSE 'confirmed' END AS state,
       bool_or(l.is_blind) AS is_blind, bool_or(l.is_adjudication) AS is_adjudicated, count(*) AS n_people,
       string_agg(l.labelled_by, ', ' ORDER BY l.labelled_by) AS labelled_by, max(l.labelled_at) AS labelled_at,
       max(l.label_id) AS label_id
FROM bloodcell.standing_label l
JOIN bloodcell.cell c USING (cell_id)
JOIN bloodcell.slide s USING (slide_id)
GROUP BY c.cell_id, s.slide_id;
COMMENT ON VIEW bloodcell.current_label IS
    'What a labelled cell is by the labels that stand: confirmed, out_of_scope (a code outside the eight groups), or contested.';

CREATE VIEW bloodcell.contested_cell AS
SELECT c.barcode, c.night, c.file_name, c.cell_id, l.label, l.labelled_by, l.labelled_at, l.is_blind, l.note
FROM bloodcell.current_label c JOIN bloodcell.standing_label l USING (cell_id)
WHERE c.state = 'contested';
COMMENT ON VIEW bloodcell.contested_cell IS
    'Cells over which people disagree, a row a label that stands: out of training until one is entered with is_adjudication.';

CREATE VIEW bloodcell.label_inbox AS
SELECT path, sha256, outcome, reason, n_rows, n_labels, seen_at, run_id FROM bloodcell.label_file;
COMMENT ON VIEW bloodcell.label_inbox IS 'Every file of the label inbox: imported, or set aside with the reason.';

-- A patient is known by the key, or by the slide while it has none; counted apart, which takes one pass over the slides.
CREATE VIEW bloodcell.patient_split AS
SELECT d.split_key, d.split, d.is_blind, d.assigned_at, d.run_id, coalesce(n.n_slides, 0) AS n_slides
FROM bloodcell.data_split d
LEFT JOIN (
    SELECT key AS split_key, count(*) AS n_slides
    FROM bloodcell.slide s CROSS JOIN LATERAL (VALUES (s.patient_key), ('slide:' || s.barcode)) keys (key)
    GROUP BY key
) n USING (split_key);
COMMENT ON VIEW bloodcell.patient_split IS
    'On which split (training, validation, holdout) a patient''s cells are, for good; is_blind: blind-read labels decided.';
