-- name: new_labels
CREATE TEMP TABLE new_label (row_number BIGINT, barcode TEXT, file_name TEXT, cell_id BIGINT, sha256 TEXT,
    stored_sha256 TEXT, class TEXT, sub_label TEXT, labelled_by TEXT, labelled_at TIMESTAMP WITH TIME ZONE,
    is_blind BOOLEAN, is_adjudication BOOLEAN, note TEXT) ON COMMIT DROP

-- name: place_by_name
-- A cell_id is trusted only if slide and file agree with it, since it may be from another database.
CREATE TEMP TABLE placed ON COMMIT DROP AS
SELECT n.row_number, n.barcode, n.file_name, n.cell_id AS given_id, NULL::text AS sha256, n.class, n.sub_label,
       n.labelled_by, n.labelled_at, n.is_blind, n.is_adjudication, n.note,
       coalesce(named.cell_id, given.cell_id) AS cell_id,
       CASE WHEN n.labelled_at > now() + interval '5 minutes' THEN 'future'
            WHEN n.cell_id IS NOT NULL AND given.cell_id IS NULL THEN 'cell'
            WHEN n.cell_id IS NOT NULL
                 AND (btrim(n.barcode, E' \t\n\r\f') <> btrim(of_given.barcode, E' \t\n\r\f')
                      OR btrim(n.file_name, E' \t\n\r\f') <> btrim(given.file_name, E' \t\n\r\f')) THEN 'other_cell'
            WHEN of_given.withdrawn_at IS NOT NULL
                 OR (n.cell_id IS NULL AND slide.slide_id IS NULL
                     AND EXISTS (SELECT 1 FROM bloodcell.slide w WHERE w.barcode = n.barcode)) THEN 'withdrawn'
            WHEN n.cell_id IS NULL AND slide.slide_id IS NULL THEN 'slide'
            WHEN n.cell_id IS NULL AND named.cell_id IS NULL THEN 'file' END AS problem,
       of_given.barcode || '/' || given.file_name AS detail
FROM new_label n
LEFT JOIN bloodcell.standing_slide slide ON n.cell_id IS NULL AND slide.barcode = n.barcode
LEFT JOIN bloodcell.cell named ON named.slide_id = slide.slide_id AND named.file_name = n.file_name
LEFT JOIN bloodcell.cell given ON given.cell_id = n.cell_id
LEFT JOIN bloodcell.slide of_given ON of_given.slide_id = given.slide_id

-- name: place_by_image
-- The file may be as it was received, as it was exported, or may have got metadata of its own. Several cells may have the
-- image. The label goes to those with the given name if there are any, otherwise to all.
CREATE TEMP TABLE placed ON COMMIT DROP AS
SELECT n.row_number, n.barcode, n.file_name, NULL::bigint AS given_id, n.sha256, n.class, n.sub_label, n.labelled_by,
       n.labelled_at, n.is_blind, n.is_adjudication, n.note, found.cell_id,
       CASE WHEN found.cell_id IS NULL THEN 'image' WHEN NOT found.is_there THEN 'other_slide' END AS problem,
       found.barcode AS detail
FROM new_label n
LEFT JOIN (
    SELECT m.row_number, cell.cell_id, slide.barcode, m.barcode IS NULL OR slide.barcode = m.barcode AS is_there,
           rank() OVER (PARTITION BY m.row_number ORDER BY (slide.barcode = m.barcode) IS TRUE DESC,
                        cell.file_name = m.file_name DESC) AS place
    FROM new_label m
    JOIN bloodcell.cell ON cell.sha256 = ANY (ARRAY[m.sha256, m.stored_sha256])
    JOIN bloodcell.standing_slide slide USING (slide_id)
) found ON found.row_number = n.row_number AND found.place = 1

-- name: look_up_files_by_name
-- What the file ledger knows about rows that name no cell. The label of a duplicate goes to the cell that it repeats.
UPDATE placed p
SET cell_id = d.cell_id, problem = nullif(d.outcome, 'duplicate'), detail = concat_ws(': ', d.reason, d.detail)
FROM (
    SELECT DISTINCT ON (b.row_number) b.row_number, f.outcome, f.cell_id, f.reason, f.detail
    FROM placed b JOIN bloodcell.drop_file f
        ON f.barcode = b.barcode AND bloodcell.one_form(f.path) IN (b.file_name, b.barcode || '/' || b.file_name)
    WHERE b.problem IN ('file', 'slide', 'image') AND f.outcome <> 'cell'
      AND (f.cell_id IS NULL OR EXISTS (SELECT 1 FROM bloodcell.cell c JOIN bloodcell.standing_slide s USING (slide_id)
                                        WHERE c.cell_id = f.cell_id AND s.barcode = b.barcode))
    ORDER BY b.row_number, f.outcome = 'duplicate' DESC, f.updated_at DESC
) d
WHERE d.row_number = p.row_number

-- name: look_up_files_by_image
UPDATE placed p
SET cell_id = d.cell_id, problem = nullif(d.outcome, 'duplicate'), detail = concat_ws(': ', d.reason, d.detail)
FROM (
    SELECT DISTINCT ON (b.row_number) b.row_number, f.outcome, f.cell_id, f.reason, f.detail
    FROM placed b JOIN bloodcell.drop_file f ON f.sha256 = b.sha256
    WHERE b.problem IN ('file', 'slide', 'image') AND f.outcome <> 'cell'
      AND (f.cell_id IS NULL OR EXISTS (SELECT 1 FROM bloodcell.cell c JOIN bloodcell.standing_slide USING (slide_id)
                                        WHERE c.cell_id = f.cell_id))
    ORDER BY b.row_number, f.outcome = 'duplicate' DESC, f.updated_at DESC
) d
WHERE d.row_number = p.row_number

-- name: judge
-- If rows contradict each other, nobody knows which is right, so none is imported. In a folder the time is that of the
-- file, and does not tell which of two places the person meant.
CREATE TEMP TABLE judged ON COMMIT DROP AS
SELECT p.row_number, p.barcode, p.file_name, p.given_id, p.cell_id, p.class, p.sub_label,
       coalesce(p.sub_label, p.class) AS label, p.labelled_by, p.labelled_at, p.is_blind, p.is_adjudication, p.note,
       CASE WHEN p.problem IS NOT NULL THEN p.problem WHEN min(content) OVER same <> max(content) OVER same THEN 'row' END
           AS problem,
       CASE WHEN p.problem IS NOT NULL THEN p.detail
            ELSE 'row ' || min(row_number) OVER same || ' and row ' || max(row_number) OVER same END AS detail,
       row_number() OVER (same ORDER BY row_number) = 1 AS is_first
FROM (SELECT *, ROW(class, sub_label, is_blind, is_adjudication, note)::text AS content FROM placed) p
WINDOW same AS (PARTITION BY problem IS NULL, cell_id, labelled_by, CASE WHEN NOT :by_image THEN labelled_at END)

-- name: append
INSERT INTO bloodcell.label (cell_id, class, sub_label, labelled_by, labelled_at, is_blind, is_adjudication, note,
                             source, run_id)
SELECT j.cell_id, j.class, j.sub_label, j.labelled_by, j.labelled_at, j.is_blind, j.is_adjudication, j.note,
       :source, :run_id
FROM judged j
WHERE j.problem IS NULL AND j.is_first
ORDER BY j.cell_id, j.labelled_by, j.labelled_at
ON CONFLICT ON CONSTRAINT label_once DO NOTHING

-- name: append_changes
-- Leaves out labels that repeat the person's newest one: a copied folder has new times, but no new labels.
INSERT INTO bloodcell.label (cell_id, class, sub_label, labelled_by, labelled_at, is_blind, is_adjudication, note,
                             source, run_id)
SELECT j.cell_id, j.class, j.sub_label, j.labelled_by, j.labelled_at, j.is_blind, j.is_adjudication, j.note,
       :source, :run_id
FROM judged j
WHERE j.problem IS NULL AND j.is_first
  AND NOT EXISTS (
      SELECT 1 FROM bloodcell.label l WHERE l.cell_id = j.cell_id AND l.labelled_by = j.labelled_by
      AND l.class IS NOT DISTINCT FROM j.class AND l.sub_label IS NOT DISTINCT FROM j.sub_label
      AND NOT EXISTS (SELECT 1 FROM bloodcell.label newer WHERE newer.cell_id = j.cell_id
                      AND newer.labelled_by = j.labelled_by AND newer.labelled_at > l.labelled_at))
ORDER BY j.cell_id, j.labelled_by, j.labelled_at
ON CONFLICT ON CONSTRAINT label_once DO NOTHING

-- name: mark_contradictions
-- Runs after the append, so that it also sees what another import has written in the meantime.
UPDATE judged j SET problem = 'label', detail = coalesce(l.sub_label, l.class)
    || CASE WHEN l.is_blind THEN ', blind' ELSE '' END || CASE WHEN l.is_adjudication THEN ', adjudication' ELSE '' END
    || coalesce(', note ' || quote_literal(left(l.note, 60)), '')
FROM bloodcell.label l
WHERE j.problem IS NULL AND l.run_id IS DISTINCT FROM :run_id
  AND l.cell_id = j.cell_id AND l.labelled_by = j.labelled_by AND l.labelled_at = j.labelled_at
  AND (l.class, l.sub_label, l.is_blind, l.is_adjudication, l.note)
      IS DISTINCT FROM (j.class, j.sub_label, j.is_blind, j.is_adjudication, j.note)

-- name: count_rows
SELECT count(*) FILTER (WHERE j.is_first), count(l.label_id) FILTER (WHERE j.is_first),
       count(*) FILTER (WHERE NOT j.is_first)
FROM judged j LEFT JOIN bloodcell.label l
    ON l.cell_id = j.cell_id AND l.labelled_by = j.labelled_by AND l.labelled_at = j.labelled_at AND l.run_id = :run_id
WHERE j.problem IS NULL

-- name: count_refused
SELECT count(DISTINCT row_number),
       count(DISTINCT row_number) FILTER (WHERE problem IN ('slide', 'file', 'image', 'quarantined'))
FROM judged WHERE problem IS NOT NULL

-- name: refused
SELECT DISTINCT ON (row_number) row_number, problem, detail, barcode, file_name, given_id, label, labelled_by,
       (labelled_at AT TIME ZONE 'UTC')::text || ' UTC' AS labelled_at
FROM judged WHERE problem IS NOT NULL ORDER BY row_number LIMIT :most

-- name: count_contested
-- By the rule of the view current_label, applied only to the cells of these rows.
SELECT count(*) FROM (
    SELECT s.cell_id FROM bloodcell.standing_label s
    WHERE s.cell_id IN (SELECT j.cell_id FROM judged j WHERE j.problem IS NULL)
    GROUP BY s.cell_id HAVING min(coalesce(s.class, '')) <> max(coalesce(s.class, ''))
) contested
