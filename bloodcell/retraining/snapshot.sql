-- name: collect_labels
-- Materialised, so that the views behind it are evaluated once. Cells of patients who judge models, and all cells out of
-- scope, count only with blind readings of the random sample.
CREATE TEMP TABLE labelled ON COMMIT DROP AS
SELECT l.cell_id, l.sha256, l.split_key, d.split IN ('holdout', 'lockbox') AS judges, e.cell_id IS NOT NULL AS is_evidence,
       l.label_id AS newest_label_id, d.split AS split_of_patient,
       CASE WHEN d.split IN ('holdout', 'lockbox') THEN e.class ELSE l.class END AS class,
       CASE WHEN d.split IN ('holdout', 'lockbox') THEN e.state ELSE l.state END AS state,
       CASE WHEN d.split IN ('holdout', 'lockbox') THEN e.label_id ELSE l.label_id END AS label_id,
       e.state AS evidence_state,
       EXISTS (SELECT FROM bloodcell.control_slide k JOIN bloodcell.cell c USING (slide_id) WHERE c.cell_id = l.cell_id)
           AS is_control
FROM bloodcell.current_label l
JOIN bloodcell.data_split d USING (split_key)
LEFT JOIN bloodcell.evidence_label e USING (cell_id)

-- name: judge
-- The class of each labelled cell, and the patient whose image it was first.
CREATE TEMP TABLE judged ON COMMIT DROP AS
SELECT l.cell_id, l.sha256, l.split_key, l.class, l.label_id,
       CASE WHEN l.class IS NULL THEN 'out_of_scope' ELSE l.split_of_patient END AS split,
       CASE WHEN l.is_control THEN 'control material or external round'
            WHEN l.judges AND NOT l.is_evidence THEN 'patient judges models, cell not read blind from the random sample'
            WHEN l.state = 'contested' THEN 'contested'
            WHEN l.state = 'out_of_scope' AND l.evidence_state IS DISTINCT FROM 'out_of_scope'
            THEN 'out of scope, not read blind from the random sample'
            WHEN count(*) FILTER (WHERE l.state = 'contested') OVER image > 0
              OR min(coalesce(l.class, '')) OVER image <> max(coalesce(l.class, '')) OVER image
            THEN 'image labelled differently elsewhere'
            WHEN EXISTS (SELECT FROM bloodcell.image i WHERE i.sha256 = l.sha256 AND i.removed_at IS NOT NULL)
            THEN 'image no longer kept'
            WHEN first.split_key <> l.split_key THEN 'image first seen from another patient'
            WHEN row_number() OVER (PARTITION BY l.sha256, l.split_key, l.judges AND NOT l.is_evidence
                                    ORDER BY l.cell_id) > 1
            THEN 'image already counted'
       END AS reason
FROM labelled l
CROSS JOIN LATERAL (
    SELECT bloodcell.split_key(s.patient_key, s.barcode) AS split_key
    FROM bloodcell.cell c JOIN bloodcell.standing_slide s USING (slide_id)
    WHERE c.sha256 = l.sha256 ORDER BY c.cell_id LIMIT 1
) first
WINDOW image AS (PARTITION BY l.sha256, l.judges AND NOT l.is_evidence)

-- name: leave_out_other_splits
UPDATE judged SET reason = 'image already in another split'
WHERE reason IS NULL AND EXISTS (
    SELECT 1 FROM bloodcell.dataset_image i
    WHERE i.sha256 = judged.sha256 AND judged.split <> i.split AND 'out_of_scope' NOT IN (judged.split, i.split))

-- name: newest_label
SELECT coalesce(max(newest_label_id), 0) FROM labelled

-- name: digest
SELECT encode(sha256(convert_to(coalesce(string_agg(sha256 || ' ' || split || ' ' || coalesce(class, '-'), E'\n'
                                                    ORDER BY sha256), ''), 'UTF8')), 'hex')
FROM judged WHERE reason IS NULL

-- name: counts
SELECT split, class AS class_, count(*) AS n FROM judged WHERE reason IS NULL GROUP BY split, class

-- name: left_out
SELECT reason, count(*) AS n FROM judged WHERE reason IS NOT NULL GROUP BY reason ORDER BY reason

-- name: store_images
INSERT INTO bloodcell.dataset_image (dataset_digest, sha256, split, class, cell_id, split_key, label_id)
SELECT :digest, sha256, split, class, cell_id, split_key, label_id FROM judged WHERE reason IS NULL ORDER BY sha256
