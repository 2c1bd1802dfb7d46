-- name: count_images
SELECT count(*) FROM bloodcell.current_label WHERE state <> 'contested' AND coalesce(sub_label, class) IS NOT NULL

-- name: images
SELECT coalesce(sub_label, class) AS label, barcode, file_name, sha256 FROM bloodcell.current_label
WHERE state <> 'contested' AND coalesce(sub_label, class) IS NOT NULL

-- name: labels
-- A text that a spreadsheet would run as a formula gets an apostrophe, which label_rows.unguarded removes again:
-- https://owasp.org/www-community/attacks/CSV_Injection
SELECT l.cell_id,
       CASE WHEN s.barcode ~ '^''*[-=+@\t\r]' THEN '''' || s.barcode ELSE s.barcode END AS slide,
       CASE WHEN c.file_name ~ '^''*[-=+@\t\r]' THEN '''' || c.file_name ELSE c.file_name END AS file,
       l.label,
       CASE WHEN l.labelled_by ~ '^''*[-=+@\t\r]' THEN '''' || l.labelled_by ELSE l.labelled_by END AS labelled_by,
       to_char(l.labelled_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24\:MI\:SS.US"Z"') AS labelled_at,
       l.is_blind::int AS blind, l.is_adjudication::int AS adjudication,
       CASE WHEN l.note ~ '^''*[-=+@\t\r]' THEN '''' || l.note ELSE l.note END AS note
FROM bloodcell.standing_label l JOIN bloodcell.cell c USING (cell_id)
JOIN bloodcell.standing_slide s USING (slide_id)
ORDER BY s.barcode, c.file_name, l.labelled_by
