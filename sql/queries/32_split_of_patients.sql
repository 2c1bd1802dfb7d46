-- On which split of the split patients are, and how many labelled cells of each class lie there.
--
-- Who asks: whoever wants a hold-out with enough cells of a rare class; the auditor.
-- Set: nothing
-- Read: a row a split; a patient stays on its split for good. n_blind patients were put there for their blind-read labels.
--   The columns of classes count cells with a confirmed label; n_contested and n_out_of_scope are in no class. split
--   "not yet": labelled, and given a split by the next snapshot. A class with few hold-out cells keeps a gate shut.
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
ORDER BY array_position(ARRAY['training', 'validation', 'holdout', 'not yet'], split);
