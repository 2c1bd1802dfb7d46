-- Cells on whose class, or code out of scope, people disagree: those that somebody calls a blast first, then the oldest.
--
-- Who asks: the pathologist who adjudicates.
-- Set: most (rows at most, default 200)
-- Read: labels: the newest label of each person, with blind readings marked. call and confidence are those of the reported
--   model, which is not a reference. A contested cell counts as unclassified, its slide cannot be signed, and it is not used
--   for training until a label with is_adjudication settles it: INSERT INTO cell_label (cell_id, label, is_adjudication)
--   VALUES (..., 'neutrophil', true), as a reviewer. n_in_all: all contested cells, also those beyond the last row.
\if :{?most}
\else
\set most 200
\endif

WITH disputed AS (
    SELECT barcode, night, file_name, cell_id, count(*) AS n_people, max(labelled_at) AS last_labelled_at,
           bool_or(label = 'BL') AS is_blast,
           string_agg(labelled_by || ': ' || label || CASE WHEN is_blind THEN ' (blind)' ELSE '' END, ', '
                      ORDER BY labelled_at) AS labels
    FROM bloodcell.contested_cell GROUP BY barcode, night, file_name, cell_id
)
SELECT d.barcode, d.night, d.file_name, d.cell_id, d.n_people, d.labels, r.called_class AS call,
       round(r.confidence::numeric, 3) AS confidence, d.last_labelled_at, count(*) OVER () AS n_in_all
FROM disputed d
LEFT JOIN bloodcell.cell_result r ON r.cell_id = d.cell_id AND r.night = d.night AND r.is_reported
ORDER BY d.is_blast DESC, d.last_labelled_at, d.cell_id
LIMIT :most;
