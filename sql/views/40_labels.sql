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

CREATE OR REPLACE FUNCTION bloodcell.enter_label() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found bigint;
    given text := trim(NEW.label);
    a_class text;
    a_code text;
BEGIN
    SELECT c.cell_id INTO found FROM bloodcell.cell c JOIN bloodcell.slide s USING (slide_id)
    WHERE (NEW.cell_id IS NULL OR c.cell_id = NEW.cell_id) AND (NEW.barcode IS NULL OR s.barcode = NEW.barcode)
      AND (NEW.file_name IS NULL OR c.file_name = NEW.file_name)
      AND (NEW.cell_id IS NOT NULL OR (NEW.barcode IS NOT NULL AND NEW.file_name IS NOT NULL));
    IF found IS NULL THEN
        RAISE EXCEPTION 'No such cell: cell_id %, barcode %, file_name %', NEW.cell_id, NEW.barcode, NEW.file_name
            USING ERRCODE = 'foreign_key_violation',
                  HINT = 'Name a cell by cell_id, or by barcode and file_name, as cell_result shows them. A quarantined file has none.';
    END IF;
    IF NEW.labelled_by IS NOT NULL AND NEW.labelled_by <> session_user THEN
        RAISE EXCEPTION 'labelled_by is %, the login is %', NEW.labelled_by, session_user
            USING ERRCODE = 'insufficient_privilege', HINT = 'Leave labelled_by out: it is the login.';
    END IF;
    SELECT k.class, k.code INTO a_class, a_code FROM bloodcell.cell_code k
    WHERE k.code = upper(given) AND (k.class IS NULL OR k.code IN ('SNE', 'BNE', 'PMY', 'MY', 'MMY'));
    IF a_code IS NULL THEN
        SELECT k.class INTO a_class FROM bloodcell.cell_code k WHERE k.code = upper(given) OR k.class = lower(given) LIMIT 1;
        IF a_class IS NULL THEN
            RAISE EXCEPTION 'Unknown label %', NEW.label USING ERRCODE = 'check_violation',
                HINT = 'A class (neutrophil, ig ...) or an analyser code (SNE, BL ...): TABLE bloodcell.label_code.';
        END IF;
    END IF;
    INSERT INTO bloodcell.label (cell_id, class, sub_label, labelled_by, labelled_at, is_blind, is_adjudication, note, source)
    VALUES (found, a_class, a_code, session_user, coalesce(NEW.labelled_at, clock_timestamp()),
            coalesce(NEW.is_blind, false), coalesce(NEW.is_adjudication, false), NEW.note, 'view')
    RETURNING label_id INTO NEW.label_id;
    RETURN NEW;
END $$;
REVOKE ALL ON FUNCTION bloodcell.enter_label() FROM PUBLIC;
CREATE TRIGGER enter_label INSTEAD OF INSERT ON bloodcell.cell_label
    FOR EACH ROW EXECUTE FUNCTION bloodcell.enter_label();
GRANT INSERT ON bloodcell.cell_label TO bloodcell_reviewer;

CREATE VIEW bloodcell.label_code AS SELECT code, class, name FROM bloodcell.cell_code;
COMMENT ON VIEW bloodcell.label_code IS 'Codes a cell may be labelled with; class is empty for those outside the eight groups.';

-- Of each person the newest label stands. An adjudication settles all that was said before it; who disagrees later
-- contests the cell again. Two codes outside the eight groups do not disagree: both keep the cell out of training.
CREATE VIEW bloodcell.current_label AS
WITH adjudication AS (
    SELECT DISTINCT ON (cell_id) cell_id, labelled_at, label_id FROM bloodcell.label WHERE is_adjudication
    ORDER BY cell_id, labelled_at DESC, label_id DESC
), standing AS (
    SELECT DISTINCT ON (l.cell_id, l.labelled_by) l.* FROM bloodcell.label l LEFT JOIN adjudication a USING (cell_id)
    WHERE a.cell_id IS NULL OR (l.labelled_at, l.label_id) >= (a.labelled_at, a.label_id)
    ORDER BY l.cell_id, l.labelled_by, l.labelled_at DESC, l.label_id DESC
), ruled AS (
    SELECT cell_id, CASE WHEN min(coalesce(class, '')) = max(coalesce(class, '')) THEN min(class) END AS class,
           CASE WHEN min(coalesce(sub_label, '')) = max(coalesce(sub_label, '')) THEN min(sub_label) END AS sub_label,
           min(coalesce(class, '')) <> max(coalesce(class, '')) AS is_contested, bool_or(is_blind) AS is_blind,
           bool_or(is_adjudication) AS is_adjudicated, count(*) AS n_people, max(label_id) AS label_id,
           max(labelled_at) AS labelled_at, string_agg(labelled_by, ', ' ORDER BY labelled_by) AS labelled_by
    FROM standing GROUP BY cell_id
)
SELECT s.barcode, c.night, c.file_name, r.cell_id, c.sha256, s.patient_key,
       coalesce(s.patient_key, 'slide:' || s.barcode) AS split_key, r.class, r.sub_label,
       CASE WHEN r.is_contested THEN 'contested' WHEN r.class IS NULL THEN 'out_of_scope' ELSE 'confirmed' END AS state,
       r.is_blind, r.is_adjudicated, r.n_people, r.labelled_by, r.labelled_at, r.label_id
FROM ruled r
JOIN bloodcell.cell c USING (cell_id)
JOIN bloodcell.slide s USING (slide_id);
COMMENT ON VIEW bloodcell.current_label IS
    'What a labelled cell is by the labels that stand: confirmed, out_of_scope (a code outside the eight groups), or contested.';

CREATE VIEW bloodcell.contested_cell AS
SELECT c.barcode, c.night, c.file_name, c.cell_id, l.label, l.labelled_by, l.labelled_at, l.is_blind, l.note
FROM bloodcell.current_label c JOIN bloodcell.cell_label l USING (cell_id)
WHERE c.state = 'contested';
COMMENT ON VIEW bloodcell.contested_cell IS
    'Cells over which people disagree, a row a label: out of training until one is entered with is_adjudication.';

CREATE VIEW bloodcell.label_inbox AS
SELECT path, sha256, outcome, reason, n_rows, n_labels, seen_at, run_id FROM bloodcell.label_file;
COMMENT ON VIEW bloodcell.label_inbox IS 'Every file of the label inbox: imported, or set aside with the reason.';

CREATE VIEW bloodcell.patient_split AS
SELECT d.split_key, d.side, d.is_blind, d.assigned_at, d.run_id,
       (SELECT count(*) FROM bloodcell.slide s WHERE s.patient_key = d.split_key
                                                  OR 'slide:' || s.barcode = d.split_key) AS n_slides
FROM bloodcell.data_split d;
COMMENT ON VIEW bloodcell.patient_split IS
    'On which side (training, validation, holdout) a patient''s cells are, for good; is_blind: blind-read labels decided.';
