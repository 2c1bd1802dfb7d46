-- Reviewers add labels here: INSERT INTO cell_label (barcode, file_name, label, is_blind) VALUES (...)
CREATE VIEW bloodcell.cell_label AS
SELECT l.label_id, s.barcode, c.night, c.file_name, c.cell_id, c.sha256, s.patient_key,
       coalesce(l.sub_label, l.class) AS label, l.class, l.sub_label, l.labelled_by, l.labelled_at, l.is_blind,
       l.is_adjudication, l.note, l.source, l.recorded_at, l.recorded_by, l.run_id, s.withdrawn_at, l.is_retraction,
       l.session_id
FROM bloodcell.label l
JOIN bloodcell.cell c USING (cell_id)
JOIN bloodcell.slide s USING (slide_id);

COMMENT ON VIEW bloodcell.cell_label IS
    'Every label ever given to a cell, as it was entered. A reviewer adds one with INSERT INTO cell_label (barcode, '
    'file_name, label, is_blind) VALUES (...); cell_id may name the cell instead. Labels are never changed: a correction '
    'is a new one.';
COMMENT ON COLUMN bloodcell.cell_label.label IS 'The label as a person writes it: a class or a code of label_code.';
COMMENT ON COLUMN bloodcell.cell_label.labelled_by IS 'Who labelled the cell; in an INSERT always the login.';
COMMENT ON COLUMN bloodcell.cell_label.labelled_at IS 'When the person labelled it; in an INSERT now, unless given.';
COMMENT ON COLUMN bloodcell.cell_label.source IS 'How the label came in: csv, folder, view or desk.';
COMMENT ON COLUMN bloodcell.cell_label.is_retraction IS
    'Whether the person took the own label back, at the review desk; then there is no label.';
COMMENT ON COLUMN bloodcell.cell_label.session_id IS 'Session of the review desk; empty for a label that came in another way.';
COMMENT ON COLUMN bloodcell.cell_label.recorded_at IS 'When the label reached the database.';
COMMENT ON COLUMN bloodcell.cell_label.recorded_by IS 'Login that wrote it.';
COMMENT ON COLUMN bloodcell.cell_label.run_id IS 'Run that imported it; empty where it was entered through this view.';

CREATE OR REPLACE FUNCTION bloodcell.one_form(name text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN normalize(name);
COMMENT ON FUNCTION bloodcell.one_form(text) IS
    'A name in the Unicode form (NFC) in which names of slides and files are stored: systems encode accents differently.';

-- The characters of bloodcell.visible_text; white space that a note may have on several lines is none of them.
CREATE OR REPLACE FUNCTION bloodcell.has_invisible(a_text text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN a_text ~ ('[\u0001-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f'
    '\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3'
    '\U0001d173-\U0001d17a\U000e0000-\U000e0fff]');
COMMENT ON FUNCTION bloodcell.has_invisible(text) IS
    'Whether text has a character that nobody sees, such as a change of the direction of writing.';

-- The label of a duplicate file goes to the cell that the file repeats, as in bloodcell.labels.
CREATE OR REPLACE FUNCTION bloodcell.enter_label() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    given text := btrim(NEW.label, E' \t\n\r\f');
    found_cell bigint;
    set_aside text;
BEGIN
    NEW.barcode := bloodcell.one_form(NEW.barcode);
    NEW.file_name := bloodcell.one_form(NEW.file_name);
    IF NEW.labelled_by IS NOT NULL AND NEW.labelled_by <> session_user THEN
        RAISE EXCEPTION 'labelled_by is %, the login is %', NEW.labelled_by, session_user
            USING ERRCODE = 'insufficient_privilege', HINT = 'Leave labelled_by out: it is always the login.';
    END IF;
    IF NEW.cell_id IS NOT NULL THEN
        SELECT c.cell_id INTO found_cell FROM bloodcell.cell c JOIN bloodcell.standing_slide s USING (slide_id)
        WHERE c.cell_id = NEW.cell_id AND s.barcode = coalesce(NEW.barcode, s.barcode)
          AND c.file_name = coalesce(NEW.file_name, c.file_name);
    ELSE
        SELECT c.cell_id INTO found_cell FROM bloodcell.cell c JOIN bloodcell.standing_slide s USING (slide_id)
        WHERE s.barcode = NEW.barcode AND c.file_name = NEW.file_name;
        IF found_cell IS NULL THEN
            SELECT d.cell_id, CASE WHEN d.outcome = 'quarantined' THEN d.reason END INTO found_cell, set_aside
            FROM bloodcell.drop_file d
            WHERE d.barcode = NEW.barcode
              AND bloodcell.one_form(d.path) IN (NEW.file_name, NEW.barcode || '/' || NEW.file_name)
              AND d.outcome IN ('duplicate', 'quarantined')
              AND (d.outcome = 'quarantined'
                   OR EXISTS (SELECT 1 FROM bloodcell.cell c JOIN bloodcell.standing_slide s USING (slide_id)
                              WHERE c.cell_id = d.cell_id AND s.barcode = d.barcode))
            ORDER BY d.outcome, d.updated_at DESC LIMIT 1;
        END IF;
    END IF;
    IF set_aside IS NOT NULL THEN
        RAISE EXCEPTION 'The file was quarantined, so there is no cell to label: barcode %, file_name %: %', NEW.barcode,
            NEW.file_name, set_aside USING ERRCODE = 'foreign_key_violation', HINT = 'See the view quarantine_report.';
    END IF;
    IF found_cell IS NULL AND EXISTS (
        SELECT 1 FROM bloodcell.slide s LEFT JOIN bloodcell.cell c ON c.slide_id = s.slide_id AND c.cell_id = NEW.cell_id
        WHERE s.withdrawn_at IS NOT NULL AND (s.barcode = NEW.barcode OR c.cell_id IS NOT NULL)
    ) THEN
        RAISE EXCEPTION 'The slide was withdrawn: cell_id %, barcode %, file_name %', NEW.cell_id, NEW.barcode,
            NEW.file_name USING ERRCODE = 'foreign_key_violation',
            HINT = 'The view withdrawn_slide says why, and under which barcode its cells are now.';
    END IF;
    IF found_cell IS NULL THEN
        RAISE EXCEPTION 'No such cell: cell_id %, barcode %, file_name %', NEW.cell_id, NEW.barcode, NEW.file_name
            USING ERRCODE = 'foreign_key_violation',
                  HINT = 'Name a cell by cell_id, or by barcode and file_name, as cell_result shows them.';
    END IF;
    SELECT k.class, k.sub_label INTO NEW.class, NEW.sub_label FROM bloodcell.cell_code k WHERE k.code = upper(given);
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
            HINT = 'Leave labelled_at out for now. A time without a zone is read in the session''s TimeZone.';
    END IF;
    NEW.is_blind := coalesce(NEW.is_blind, false);
    NEW.is_adjudication := coalesce(NEW.is_adjudication, false);
    NEW.note := nullif(btrim(NEW.note, E' \t\n\r\f'), '');
    IF bloodcell.has_invisible(NEW.note) THEN
        RAISE EXCEPTION 'The note has characters that nobody sees' USING ERRCODE = 'check_violation',
            HINT = 'Such as a change of the direction of writing. Type the note again.';
    END IF;
    -- the clock's time, not the transaction's: in a long transaction a label would lie in the future
    INSERT INTO bloodcell.label AS l (cell_id, class, sub_label, labelled_by, labelled_at, is_blind, is_adjudication, note,
                                      source, recorded_at)
    VALUES (found_cell, NEW.class, NEW.sub_label, NEW.labelled_by, NEW.labelled_at, NEW.is_blind, NEW.is_adjudication,
            NEW.note, 'view', clock_timestamp())
    RETURNING l.label_id, l.source, l.recorded_at, l.recorded_by
    INTO NEW.label_id, NEW.source, NEW.recorded_at, NEW.recorded_by;
    RETURN NEW;
END $$;
REVOKE ALL ON FUNCTION bloodcell.enter_label() FROM PUBLIC;
COMMENT ON FUNCTION bloodcell.enter_label() IS 'Stores a label that is inserted into cell_label, in the name of the login.';
CREATE TRIGGER enter_label INSTEAD OF INSERT ON bloodcell.cell_label
    FOR EACH ROW EXECUTE FUNCTION bloodcell.enter_label();
GRANT INSERT ON bloodcell.cell_label TO bloodcell_reviewer;

-- After a killed import the statistics may say that there are no labels, and the next import joins its 200,000 with nested
-- loops: minutes instead of 0.2 s.
CREATE OR REPLACE FUNCTION bloodcell.analyze_labels() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    ANALYZE bloodcell.label;
END $$;
REVOKE ALL ON FUNCTION bloodcell.analyze_labels() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION bloodcell.analyze_labels() TO bloodcell_app;
COMMENT ON FUNCTION bloodcell.analyze_labels() IS
    'Updates the planner''s statistics of the labels, including those of the current transaction.';

CREATE VIEW bloodcell.label_code AS SELECT code, class, name, sub_label FROM bloodcell.cell_code;

COMMENT ON VIEW bloodcell.label_code IS
    'The codes that a cell may be labelled with, besides the names of the eight classes.';
COMMENT ON COLUMN bloodcell.label_code.code IS 'The analyser''s code.';
COMMENT ON COLUMN bloodcell.label_code.class IS 'Cell class of the code; empty for a code out of scope.';
COMMENT ON COLUMN bloodcell.label_code.name IS 'What the code means.';
COMMENT ON COLUMN bloodcell.label_code.sub_label IS
    'The code itself where a label keeps it: it is finer than its class, or it is out of scope.';

-- The newest label of each person stands. An adjudication settles everything before it; a later label that disagrees
-- contests the cell again. NOT EXISTS, not DISTINCT ON, so that a question about one slide reads only its labels.
CREATE VIEW bloodcell.standing_label AS
SELECT l.label_id, l.cell_id, coalesce(l.sub_label, l.class) AS label, l.class, l.sub_label, l.labelled_by, l.labelled_at,
       l.is_blind, l.is_adjudication, l.note
FROM bloodcell.label l
WHERE NOT l.is_retraction
  AND NOT EXISTS (SELECT 1 FROM bloodcell.label newer WHERE newer.cell_id = l.cell_id
                  AND lower(newer.labelled_by) = lower(l.labelled_by) AND newer.labelled_at > l.labelled_at)
  AND NOT EXISTS (SELECT 1 FROM bloodcell.label a WHERE a.is_adjudication AND a.cell_id = l.cell_id
                  AND (a.labelled_at, a.label_id) > (l.labelled_at, l.label_id));

COMMENT ON VIEW bloodcell.standing_label IS
    'The labels that count: the newest of each person and cell, unless an adjudication came after it.';

CREATE OR REPLACE FUNCTION bloodcell.split_key(patient_key text, barcode text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN coalesce(patient_key, 'slide:' || barcode);
COMMENT ON FUNCTION bloodcell.split_key(text, text) IS
    'The key by which a slide is assigned to a split: its patient, or the slide itself where no patient is known.';

-- What several labels of a cell say together is defined by these two functions only. Two different codes out of scope contest
-- the cell: a blast is no variant lymphocyte. Two finer codes of one class do not; the cell then has its class, and no code.
CREATE OR REPLACE FUNCTION bloodcell.agreed(lowest text, highest text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN CASE WHEN lowest = highest THEN nullif(lowest, '') END;
COMMENT ON FUNCTION bloodcell.agreed(text, text) IS 'What all labels say, of the lowest and the highest in alphabetical order.';

CREATE OR REPLACE FUNCTION bloodcell.label_state(lowest text, highest text, class text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN lowest <> highest THEN 'contested' WHEN class IS NULL THEN 'out_of_scope' ELSE 'confirmed' END;
COMMENT ON FUNCTION bloodcell.label_state(text, text, text) IS
    'confirmed, out_of_scope or contested: of the lowest and the highest class or code, and of any class among the labels.';

CREATE VIEW bloodcell.current_label AS
SELECT s.barcode, c.night, c.file_name, c.cell_id, c.sha256, s.patient_key,
       bloodcell.split_key(s.patient_key, s.barcode) AS split_key,
       bloodcell.agreed(min(coalesce(l.class, '')), max(coalesce(l.class, ''))) AS class,
       bloodcell.agreed(min(coalesce(l.sub_label, '')), max(coalesce(l.sub_label, ''))) AS sub_label,
       bloodcell.label_state(min(coalesce(l.class, l.sub_label)), max(coalesce(l.class, l.sub_label)), min(l.class)) AS state,
       bool_or(l.is_blind) AS is_blind, bool_or(l.is_adjudication) AS is_adjudicated,
       count(DISTINCT lower(l.labelled_by)) AS n_people,
       string_agg(l.labelled_by, ', ' ORDER BY l.labelled_by) AS labelled_by, max(l.labelled_at) AS labelled_at,
       max(l.label_id) AS label_id, min(l.sub_label) IS DISTINCT FROM max(l.sub_label) AS is_code_contested
FROM bloodcell.standing_label l
JOIN bloodcell.cell c USING (cell_id)
JOIN bloodcell.standing_slide s USING (slide_id)
GROUP BY c.cell_id, s.slide_id, s.barcode, s.patient_key;

COMMENT ON VIEW bloodcell.current_label IS
    'One row per labelled cell of a slide that stands: the result of the labels that count.';
COMMENT ON COLUMN bloodcell.current_label.class IS
    'The class that all labels agree on; empty for a cell that is out of scope or contested.';
COMMENT ON COLUMN bloodcell.current_label.sub_label IS
    'The finer code or code out of scope, where all labels give the same.';
COMMENT ON COLUMN bloodcell.current_label.state IS
    'confirmed (all labels agree on the class), out_of_scope (all give the same code out of scope) or contested.';
COMMENT ON COLUMN bloodcell.current_label.is_blind IS 'Whether one of the labels was read without seeing a call.';
COMMENT ON COLUMN bloodcell.current_label.is_adjudicated IS 'Whether one of the labels settled the cell.';
COMMENT ON COLUMN bloodcell.current_label.n_people IS 'People whose labels count.';
COMMENT ON COLUMN bloodcell.current_label.labelled_by IS 'All of these people.';
COMMENT ON COLUMN bloodcell.current_label.labelled_at IS 'Time of the newest label.';
COMMENT ON COLUMN bloodcell.current_label.label_id IS 'The newest label.';
COMMENT ON COLUMN bloodcell.current_label.is_code_contested IS
    'Whether people give different codes: PMY is no MMY, though both are ig. No finer class can be learnt from the cell.';

-- A reading is blind only if the person had not labelled the cell before, in whatever spelling of the name: what counts is the
-- first label that reached the database, not the time that a file gives. What the person says later, with the call in sight,
-- changes the result and not the evidence.
CREATE VIEW bloodcell.blind_label AS
SELECT l.label_id, l.cell_id, coalesce(l.sub_label, l.class) AS label, l.class, l.sub_label, l.labelled_by, l.labelled_at
FROM bloodcell.sampled_cell d
JOIN bloodcell.label l USING (cell_id)
WHERE l.is_blind AND NOT l.is_adjudication
  AND NOT EXISTS (SELECT 1 FROM bloodcell.label earlier WHERE earlier.cell_id = l.cell_id
                  AND lower(earlier.labelled_by) = lower(l.labelled_by) AND earlier.label_id < l.label_id)
  AND NOT EXISTS (SELECT 1 FROM bloodcell.slide_opening o JOIN bloodcell.cell c USING (slide_id)
                  WHERE c.cell_id = l.cell_id AND lower(o.person) = lower(l.labelled_by) AND o.opened_at < l.recorded_at);

COMMENT ON VIEW bloodcell.blind_label IS
    'Blind readings of cells of the random samples: the first label of each person, if it was read blind and the person had '
    'not opened the slide at the review desk before.';

-- An adjudication counts only where blind readers disagreed before it: otherwise a cell that somebody settled with the call in
-- sight would judge the model by its own call.
CREATE VIEW bloodcell.evidence_label AS
SELECT c.cell_id, c.night, c.sha256, c.slide_id, bloodcell.split_key(s.patient_key, s.barcode) AS split_key,
       bloodcell.agreed(min(coalesce(l.class, '')), max(coalesce(l.class, ''))) AS class,
       bloodcell.agreed(min(coalesce(l.sub_label, '')), max(coalesce(l.sub_label, ''))) AS sub_label,
       bloodcell.label_state(min(coalesce(l.class, l.sub_label)), max(coalesce(l.class, l.sub_label)), min(l.class)) AS state,
       count(*) AS n_people, max(l.label_id) AS label_id
FROM bloodcell.sampled_cell d
JOIN bloodcell.cell c USING (cell_id)
JOIN bloodcell.standing_slide s USING (slide_id)
LEFT JOIN LATERAL (
    SELECT a.label_id, a.class, a.sub_label FROM bloodcell.label a
    WHERE a.cell_id = d.cell_id AND a.is_adjudication
      AND (SELECT count(DISTINCT coalesce(b.class, b.sub_label)) FROM bloodcell.blind_label b
           WHERE b.cell_id = a.cell_id AND b.label_id < a.label_id) > 1
    ORDER BY a.label_id DESC LIMIT 1
) settled ON true
CROSS JOIN LATERAL (
    SELECT b.label_id, b.class, b.sub_label FROM bloodcell.blind_label b
    WHERE b.cell_id = d.cell_id AND b.label_id > coalesce(settled.label_id, 0)
    UNION ALL
    SELECT settled.label_id, settled.class, settled.sub_label WHERE settled.label_id IS NOT NULL
) l
GROUP BY c.cell_id, s.slide_id, s.barcode, s.patient_key;

COMMENT ON VIEW bloodcell.evidence_label IS
    'One row per cell that may judge models: drawn by chance, and read blind. Labels of other cells train models only.';
COMMENT ON COLUMN bloodcell.evidence_label.class IS
    'The class that all of these labels agree on; empty for a cell that is out of scope or contested.';
COMMENT ON COLUMN bloodcell.evidence_label.sub_label IS 'The code, where all of these labels give the same.';
COMMENT ON COLUMN bloodcell.evidence_label.state IS
    'confirmed, out_of_scope, or contested: such a cell judges nothing until an adjudication settles it.';
COMMENT ON COLUMN bloodcell.evidence_label.n_people IS 'People whose labels count here.';
COMMENT ON COLUMN bloodcell.evidence_label.label_id IS 'The newest of these labels.';

CREATE VIEW bloodcell.random_sample AS
SELECT d.cell_id, d.night, d.is_read_twice, d.drawn_at FROM bloodcell.sampled_cell d;

COMMENT ON VIEW bloodcell.random_sample IS 'Cells of each night''s random sample, which alone judge models.';
COMMENT ON COLUMN bloodcell.random_sample.is_read_twice IS 'Whether two people read it: one cell in four.';
COMMENT ON COLUMN bloodcell.random_sample.drawn_at IS 'When it was drawn.';

-- For a blind reading nothing may tell: no call, no code, no file, no slide, and no order.
CREATE VIEW bloodcell.blind_reading AS
SELECT d.cell_id, d.night, c.sha256, CASE WHEN d.is_read_twice THEN 2 ELSE 1 END AS n_readings_wanted,
       coalesce(r.n, 0) AS n_readings, r.readers
FROM bloodcell.sampled_cell d
JOIN bloodcell.cell c USING (cell_id)
JOIN bloodcell.standing_slide s USING (slide_id)
LEFT JOIN LATERAL (
    SELECT count(*) AS n, array_agg(b.labelled_by ORDER BY b.label_id) AS readers
    FROM bloodcell.blind_label b WHERE b.cell_id = d.cell_id
) r ON true
WHERE coalesce(r.n, 0) < CASE WHEN d.is_read_twice THEN 2 ELSE 1 END
  AND NOT EXISTS (SELECT 1 FROM bloodcell.image i WHERE i.sha256 = c.sha256 AND i.removed_at IS NOT NULL);

COMMENT ON VIEW bloodcell.blind_reading IS
    'Cells of the random sample that wait for a blind reading; bloodcell labels sample writes their images. A person '
    'who has labelled a cell cannot read it blind any more.';
COMMENT ON COLUMN bloodcell.blind_reading.n_readings_wanted IS 'People who read it: two of one cell in four.';
COMMENT ON COLUMN bloodcell.blind_reading.n_readings IS 'People who have read it blind.';
COMMENT ON COLUMN bloodcell.blind_reading.readers IS 'Who they are.';

-- What a cell counts as, whatever a model calls it: a person's label decides before the analyser's code. The rule is defined
-- only here.
CREATE VIEW bloodcell.decided_cell AS
SELECT c.cell_id, c.slide_id, l.cell_id IS NOT NULL AS is_labelled,
       CASE WHEN l.cell_id IS NOT NULL
            THEN CASE l.state WHEN 'confirmed' THEN l.class WHEN 'out_of_scope' THEN l.sub_label ELSE 'contested' END
            ELSE coalesce(k.code, 'OTH') END AS line,
       CASE WHEN l.cell_id IS NULL THEN k.code IS NOT DISTINCT FROM 'BL'
            WHEN l.state = 'contested' THEN EXISTS (
                SELECT 1 FROM bloodcell.standing_label o WHERE o.cell_id = c.cell_id AND o.sub_label = 'BL')
            ELSE l.sub_label IS NOT DISTINCT FROM 'BL' END AS is_blast,
       CASE WHEN l.state = 'contested' THEN (
           SELECT string_agg(DISTINCT o.label, ',' ORDER BY o.label) FROM bloodcell.standing_label o
           WHERE o.cell_id = c.cell_id) END AS contested_labels
FROM bloodcell.cell c
-- LATERAL, so that only the labels of these cells are read
LEFT JOIN LATERAL (SELECT * FROM bloodcell.current_label o WHERE o.cell_id = c.cell_id LIMIT 1) l ON true
LEFT JOIN bloodcell.cell_code k ON k.code = upper(c.analyser_code) AND k.class IS NULL
WHERE l.cell_id IS NOT NULL OR bloodcell.is_out_of_scope(c.analyser_code, c.analyser_class);

COMMENT ON VIEW bloodcell.decided_cell IS
    'What a cell counts as because of a person''s label or, without one, of an analyser code out of scope. Any other cell '
    'counts as what the reported model calls it. Always filter on slide_id or cell_id.';
COMMENT ON COLUMN bloodcell.decided_cell.is_labelled IS 'Whether a label decides; else it is the analyser''s code.';
COMMENT ON COLUMN bloodcell.decided_cell.is_blast IS
    'Whether that is a blast; of a contested cell, whether one of the people says so.';
COMMENT ON COLUMN bloodcell.decided_cell.contested_labels IS 'What people say of a contested cell, in alphabetical order.';
COMMENT ON COLUMN bloodcell.decided_cell.line IS
    'A cell class, contested, or a code out of scope; an unknown code counts as OTH.';

CREATE VIEW bloodcell.review_queue AS
SELECT barcode, night, file_name, cell_id, sha256, coalesce(unclassified_reason, 'out_of_scope') AS review_reason,
       bloodcell.is_out_of_scope(analyser_code, analyser_class) AS is_out_of_scope, called_class, top_class, confidence,
       novelty, resembles, analyser_code, variant, model_id
FROM bloodcell.cell_result r
WHERE is_reported AND (called_class = 'unclassified' OR bloodcell.is_out_of_scope(analyser_code, analyser_class))
  AND NOT EXISTS (SELECT 1 FROM bloodcell.standing_label l WHERE l.cell_id = r.cell_id);

COMMENT ON VIEW bloodcell.review_queue IS
    'Cells that a person has to look at: the reported model did not call them, or their analyser code is out of scope.';
COMMENT ON COLUMN bloodcell.review_queue.review_reason IS
    'novel or low_confidence where the cell is unclassified; out_of_scope where it was called despite such a code.';
COMMENT ON COLUMN bloodcell.review_queue.is_out_of_scope IS
    'Whether the analyser code is outside the eight classes, called or not.';

-- A cell with one label is not contested: an index tells which have more, and only their labels are compared. Of 100,000
-- labels that takes a fifth of the time, and the review desk counts contested cells for every page of a senior.
CREATE VIEW bloodcell.contested_cell AS
SELECT c.barcode, c.night, c.file_name, c.cell_id, l.label, l.labelled_by, l.labelled_at, l.is_blind, l.note
FROM bloodcell.current_label c JOIN bloodcell.standing_label l USING (cell_id)
WHERE c.state = 'contested'
  AND c.cell_id = ANY (ARRAY(SELECT o.cell_id FROM bloodcell.label o GROUP BY o.cell_id HAVING count(*) > 1));

COMMENT ON VIEW bloodcell.contested_cell IS
    'Cells on whose class, or code out of scope, people disagree, one row per label that counts. They are not used for '
    'training until a label '
    'with is_adjudication settles them.';

CREATE VIEW bloodcell.label_inbox AS
SELECT path, sha256, outcome, reason, n_rows, n_labels, seen_at, run_id FROM bloodcell.label_file;

COMMENT ON VIEW bloodcell.label_inbox IS
    'Every file of the label inbox, one row each time it was examined: again when it changes, and after the next ingest '
    'where cells were missing.';
COMMENT ON COLUMN bloodcell.label_inbox.path IS 'Path of the file, or folder sorted by class, within the inbox.';
COMMENT ON COLUMN bloodcell.label_inbox.sha256 IS 'Digest of the file, or of the folder''s listing.';
COMMENT ON COLUMN bloodcell.label_inbox.outcome IS 'imported or quarantined.';
COMMENT ON COLUMN bloodcell.label_inbox.reason IS 'Why it was quarantined, with the first wrong rows.';
COMMENT ON COLUMN bloodcell.label_inbox.n_rows IS 'Labels in the file.';
COMMENT ON COLUMN bloodcell.label_inbox.n_labels IS 'Of n_rows, those that were new.';
COMMENT ON COLUMN bloodcell.label_inbox.seen_at IS 'When the file was examined.';

-- A patient is identified by the key, or by the slide where there is none. Slides are counted separately, in one pass.
CREATE VIEW bloodcell.patient_split AS
SELECT d.split_key, d.split, d.is_blind, d.assigned_at, d.run_id, coalesce(n.n_slides, 0) AS n_slides
FROM bloodcell.data_split d
LEFT JOIN (
    SELECT key AS split_key, count(*) AS n_slides
    FROM bloodcell.standing_slide s CROSS JOIN LATERAL (VALUES (s.patient_key), (bloodcell.split_key(NULL, s.barcode))) keys (key)
    GROUP BY key
) n USING (split_key);

COMMENT ON VIEW bloodcell.patient_split IS 'The split that a patient''s cells belong to, permanently.';
COMMENT ON COLUMN bloodcell.patient_split.split IS
    'training, validation, holdout, or lockbox: opened only when a model is promoted.';
COMMENT ON COLUMN bloodcell.patient_split.is_blind IS
    'Whether the patient had cells in a random sample; before schema 0011, a blind-read label.';
COMMENT ON COLUMN bloodcell.patient_split.assigned_at IS 'When the split was assigned.';
COMMENT ON COLUMN bloodcell.patient_split.run_id IS 'Run that assigned it; see run_history.';
COMMENT ON COLUMN bloodcell.patient_split.n_slides IS 'Slides of the patient.';
