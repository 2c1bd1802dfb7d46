CREATE VIEW bloodcell.erasure_history AS
SELECT e.erasure_id, e.kind, e.erased_at, e.erased_by, e.requested_by, e.reason,
       coalesce(r.removed, '{}'::jsonb) AS removed, p.n_pending, d.n_snapshots, d.n_snapshot_images
FROM bloodcell.erasure e
CROSS JOIN LATERAL (
    SELECT jsonb_object_agg(parts.part, parts.n) AS removed FROM (
        SELECT part, sum(n) AS n FROM bloodcell.erasure_removal WHERE erasure_id = e.erasure_id GROUP BY part) parts
) r
CROSS JOIN LATERAL (
    SELECT count(*) AS n_pending FROM bloodcell.erasure_pending WHERE erasure_id = e.erasure_id
) p
CROSS JOIN LATERAL (
    SELECT count(DISTINCT dataset_digest) AS n_snapshots, coalesce(sum(n_images), 0) AS n_snapshot_images
    FROM bloodcell.erasure_dataset WHERE erasure_id = e.erasure_id
) d;

COMMENT ON VIEW bloodcell.erasure_history IS
    'One row per erasure: when, by whom, why, and how many of what. Of whom is not kept.';
COMMENT ON COLUMN bloodcell.erasure_history.erasure_id IS 'Key of the erasure.';
COMMENT ON COLUMN bloodcell.erasure_history.kind IS 'What was erased: all slides of a patient, or one slide.';
COMMENT ON COLUMN bloodcell.erasure_history.erased_at IS 'When the rows were removed.';
COMMENT ON COLUMN bloodcell.erasure_history.erased_by IS 'The login of the database that erased.';
COMMENT ON COLUMN bloodcell.erasure_history.requested_by IS 'Login name on the machine where it was requested.';
COMMENT ON COLUMN bloodcell.erasure_history.reason IS 'Why, in the words of the person who erased.';
COMMENT ON COLUMN bloodcell.erasure_history.removed IS 'What -> how many.';
COMMENT ON COLUMN bloodcell.erasure_history.n_pending IS
    'What still has to be removed outside the database; not 0: run bloodcell erase again.';
COMMENT ON COLUMN bloodcell.erasure_history.n_snapshots IS 'Snapshots that had images of the erased slides.';
COMMENT ON COLUMN bloodcell.erasure_history.n_snapshot_images IS 'Those images, counted in each snapshot.';

CREATE VIEW bloodcell.model_erasure AS
SELECT m.model_id, m.variant, d.split, sum(d.n_images) AS n_images, max(e.erased_at) AS last_erased_at
FROM bloodcell.model m
JOIN bloodcell.erasure_dataset d ON d.dataset_digest = m.manifest -> 'data' ->> 'dataset_digest'
JOIN bloodcell.erasure e USING (erasure_id)
GROUP BY m.model_id, m.variant, d.split;

COMMENT ON VIEW bloodcell.model_erasure IS
    'One row per model and split with images that have been erased since. What the model learnt from them remains.';
COMMENT ON COLUMN bloodcell.model_erasure.split IS
    'What the images were for: training, validation, holdout or out_of_scope.';
COMMENT ON COLUMN bloodcell.model_erasure.n_images IS 'Images of the model''s snapshot that were erased.';
COMMENT ON COLUMN bloodcell.model_erasure.last_erased_at IS 'When the last of them were erased.';
