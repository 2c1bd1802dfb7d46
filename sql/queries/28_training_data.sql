-- The data set of a model: how many images of how many patients, labelled by whom, by split and class.
--
-- Who asks: the auditor; anyone who wants to know what a model was trained on.
-- Set: model (id or its first characters; default: the champion)
-- Read: split: training (used to train the model), validation (used to choose its thresholds), holdout (used only to
--   validate it), out_of_scope. n_patients counts split keys (patient_key, or the slide where there is none). n_blind:
--   labels read without seeing a call. No rows: the model was trained on a folder of images, not on labels; its bundle
--   lists them.
\if :{?model}
\else
SELECT coalesce((SELECT model_id FROM bloodcell.champion), '') AS model \gset
\endif

SELECT left(m.model_id, 12) AS model, left(i.dataset_digest, 12) AS dataset, i.split, i.class, count(*) AS n_images,
       count(DISTINCT i.split_key) AS n_patients, count(DISTINCT i.barcode) AS n_slides,
       count(*) FILTER (WHERE i.is_blind) AS n_blind, string_agg(DISTINCT i.labelled_by, ', ') AS labelled_by,
       min(i.labelled_at) AS first_label, max(i.labelled_at) AS last_label
FROM bloodcell.registered_model m
JOIN bloodcell.training_image i USING (dataset_digest)
WHERE starts_with(m.model_id, :'model')
GROUP BY m.model_id, i.dataset_digest, i.split, i.class
ORDER BY m.model_id, array_position(ARRAY['training', 'validation', 'holdout', 'lockbox', 'out_of_scope'], i.split), i.class;
