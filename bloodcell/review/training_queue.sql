-- Only views: the role of the desk may read nothing else.

-- name: nights
SELECT DISTINCT night FROM bloodcell.standing_slide ORDER BY night DESC LIMIT 30

-- name: candidates
-- Called cells of a night that may train: with an image, without a code out of scope, not of the random sample, which is read
-- blind, and not of patients who judge models. Of these the least certain ones, and the most novel ones, from which those that
-- differ most are chosen. Whether a cell is labelled plays no part, so that the choice stays the same while people work.
WITH called AS MATERIALIZED (
    SELECT k.cell_id, k.novelty, k.p_basophil, k.p_eosinophil, k.p_erythroblast, k.p_ig, k.p_lymphocyte, k.p_monocyte,
           k.p_neutrophil, k.p_platelet,
           (SELECT p.ordered[1] - p.ordered[2] FROM (SELECT ARRAY(
               SELECT each FROM unnest(ARRAY[k.p_basophil, k.p_eosinophil, k.p_erythroblast, k.p_ig, k.p_lymphocyte,
                                             k.p_monocyte, k.p_neutrophil, k.p_platelet]) each
               ORDER BY each DESC LIMIT 2) AS ordered) p) AS margin
    FROM bloodcell.cell_result k
    JOIN bloodcell.slide_cell c USING (cell_id)
    JOIN bloodcell.standing_slide s ON s.slide_id = c.slide_id
    WHERE k.night = :night AND k.is_reported AND c.image_removed_at IS NULL
      AND (k.analyser_code IS NULL OR k.analyser_class IS NOT NULL)
      AND NOT EXISTS (SELECT 1 FROM bloodcell.random_sample d WHERE d.cell_id = k.cell_id)
      AND NOT EXISTS (SELECT 1 FROM bloodcell.control_slide_history h WHERE h.slide_id = c.slide_id)
      AND NOT EXISTS (SELECT 1 FROM bloodcell.patient_split p
                      WHERE p.split_key = bloodcell.split_key(s.patient_key, s.barcode)
                        AND p.split IN ('holdout', 'lockbox'))
), ranked AS (
    SELECT c.*, row_number() OVER (ORDER BY c.margin, c.cell_id) AS by_margin,
           row_number() OVER (ORDER BY c.novelty DESC, c.cell_id) AS by_novelty
    FROM called c
)
SELECT * FROM ranked WHERE by_margin <= :n OR by_novelty <= :n_pool ORDER BY by_margin

-- name: cells
-- What the page shows of the chosen cells, and whether somebody has labelled them.
SELECT k.cell_id, k.slide_id, k.barcode, k.file_name, k.called_class, k.unclassified_reason, k.confidence, k.novelty,
       k.p_basophil, k.p_eosinophil, k.p_erythroblast, k.p_ig, k.p_lymphocyte, k.p_monocyte, k.p_neutrophil, k.p_platelet,
       m.novelty_threshold, n.seen,
       EXISTS (SELECT 1 FROM bloodcell.standing_label l WHERE l.cell_id = k.cell_id) AS is_labelled
FROM bloodcell.cell_result k
JOIN bloodcell.registered_model m USING (model_id)
LEFT JOIN LATERAL (SELECT max(l.label_id) AS seen FROM bloodcell.cell_label l WHERE l.cell_id = k.cell_id) n ON true
WHERE k.night = :night AND k.cell_id = ANY (:cells) AND k.is_reported

-- name: sample
-- The night's random sample: its cells, and those that nobody has read blind yet.
SELECT count(*) AS n_cells, count(*) FILTER (WHERE b.cell_id IS NULL) AS n_read
FROM bloodcell.random_sample d LEFT JOIN bloodcell.blind_reading b USING (cell_id) WHERE d.night = :night
