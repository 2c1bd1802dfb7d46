-- Patients by split, with their labelled cells by class.
--
-- Who asks: anyone who needs a hold-out with enough cells of a rare class; the auditor.
-- Set: nothing
-- Read: one row per split; a patient stays in it permanently. n_blind patients have labels that were read blind. The class
--   columns count cells with a confirmed label; n_contested and n_out_of_scope belong to no class. split "not yet":
--   labelled, and assigned by the next snapshot. A class with too few hold-out cells fails a gate.
WITH with_split AS (
    SELECT coalesce(p.split, 'not yet') AS split, coalesce(p.split_key, l.split_key) AS split_key, p.is_blind, l.class,
           l.state, l.cell_id
    FROM bloodcell.patient_split p FULL JOIN bloodcell.current_label l USING (split_key)
)
SELECT split, count(DISTINCT split_key) AS n_patients, count(DISTINCT split_key) FILTER (WHERE is_blind) AS n_blind,
       count(cell_id) AS n_labelled, count(*) FILTER (WHERE state = 'contested') AS n_contested,
       count(*) FILTER (WHERE state = 'out_of_scope') AS n_out_of_scope,
       count(*) FILTER (WHERE class = 'neutrophil') AS neutrophil, count(*) FILTER (WHERE class = 'eosinophil') AS eosinophil,
       count(*) FILTER (WHERE class = 'basophil') AS basophil, count(*) FILTER (WHERE class = 'lymphocyte') AS lymphocyte,
       count(*) FILTER (WHERE class = 'monocyte') AS monocyte, count(*) FILTER (WHERE class = 'ig') AS ig,
       count(*) FILTER (WHERE class = 'erythroblast') AS erythroblast, count(*) FILTER (WHERE class = 'platelet') AS platelet
FROM with_split
GROUP BY split
ORDER BY array_position(ARRAY['training', 'validation', 'holdout', 'lockbox', 'not yet'], split);
