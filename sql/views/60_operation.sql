-- For `bloodcell watch` to push and for a dashboard to read. Looks back thirty nights at most, so that it stays cheap
-- however many nights there are.
CREATE VIEW bloodcell.operating_figure AS
WITH newest AS MATERIALIZED (
    -- a night in the future, from an analyser whose clock is wrong, is not the newest
    SELECT max(night) AS night FROM bloodcell."drop" WHERE night <= current_date + 1
), night AS (
    SELECT s.* FROM bloodcell.night_summary s WHERE s.night = (SELECT night FROM newest)
), waiting AS (
    SELECT count(*) AS n_slides, coalesce(sum(s.n_cells - coalesce(s.n_cells_reported, 0)), 0) AS n_cells,
           coalesce(extract(epoch FROM now() - min(d.first_seen_at)), 0) AS age_s
    FROM bloodcell.slide_status s JOIN bloodcell."drop" d USING (night)
    WHERE s.night >= current_date - 30 AND s.status IN ('waiting', 'cells came later')
), stage AS (
    SELECT stage, sum(n_cells) FILTER (WHERE state = 'succeeded')
               / nullif(sum(duration_s) FILTER (WHERE state = 'succeeded' AND n_cells > 0), 0) AS cells_per_s
    FROM bloodcell.run_history WHERE night = (SELECT night FROM newest) AND stage IN ('ingest', 'classify')
    GROUP BY stage
), success AS MATERIALIZED (
    SELECT stage, max(ended_at) AS at FROM bloodcell.run WHERE state = 'succeeded' GROUP BY stage
), trouble AS (
    SELECT r.stage, count(*) AS n_failed
    FROM bloodcell.run r LEFT JOIN success s USING (stage)
    WHERE r.state = 'failed' AND r.started_at >= now() - interval '7 days' AND (s.at IS NULL OR r.ended_at > s.at)
    GROUP BY r.stage
), checked AS (  -- a check with too few cells measures nothing and does not replace an earlier one
    SELECT DISTINCT ON (k.kind, k.class) k.kind, k.class, k.passed
    FROM bloodcell.champion_check k JOIN bloodcell.champion c USING (model_id)
    WHERE k.checked_at >= now() - interval '30 days' AND k.measured IS NOT NULL
    ORDER BY k.kind, k.class, k.checked_at DESC
), figure (name, part, value) AS (
    SELECT 'slides.waiting', '', n_slides FROM waiting
    UNION ALL SELECT 'cells.waiting', '', n_cells FROM waiting
    UNION ALL SELECT 'queue.age', '', age_s FROM waiting
    UNION ALL SELECT 'night.age', '', extract(epoch FROM now() - max(first_seen_at)) FROM bloodcell."drop"
    UNION ALL SELECT 'night.cells', '', n_cells FROM night
    UNION ALL SELECT 'night.slides', '', n_slides FROM night
    UNION ALL SELECT 'night.quarantined', '', n_quarantined::float / nullif(n_files - n_ignored, 0) FROM night
    UNION ALL SELECT 'night.unclassified', '', n_unclassified::float / nullif(n_cells_reported, 0) FROM night
    UNION ALL SELECT 'night.duration', '', extract(epoch FROM max(ended_at) - min(started_at))
              FROM bloodcell.run_history WHERE night = (SELECT night FROM newest)
    UNION ALL SELECT 'stage.speed', stage, cells_per_s FROM stage
    UNION ALL SELECT 'stage.failed', stage, coalesce(n_failed, 0) FROM success FULL JOIN trouble USING (stage)
    UNION ALL SELECT 'stage.since_success', stage, extract(epoch FROM now() - at) FROM success
    UNION ALL (SELECT 'retraining.failed', '', (state = 'failed')::integer FROM bloodcell.training_run
               ORDER BY requested_at DESC LIMIT 1)
    UNION ALL SELECT 'champion.failed_checks', kind, count(*) FILTER (WHERE NOT passed) FROM checked
              GROUP BY kind
)
SELECT name, part, value::float AS value FROM figure WHERE value IS NOT NULL;

COMMENT ON VIEW bloodcell.operating_figure IS
    'What an operator watches, one row per figure; bloodcell watch pushes it to a collector of metrics.';
COMMENT ON COLUMN bloodcell.operating_figure.name IS
    'slides.waiting, cells.waiting; queue.age (of the oldest waiting slide, s); of the newest night: night.age (s), '
    'night.cells, night.slides, night.duration (s), night.quarantined and night.unclassified (shares); of each stage: '
    'stage.speed (cells per second), stage.since_success (s), stage.failed (runs since then); retraining.failed (1: the '
    'newest one ended with an error); champion.failed_checks.';
COMMENT ON COLUMN bloodcell.operating_figure.part IS 'The stage or the kind of check, or an empty text.';
COMMENT ON COLUMN bloodcell.operating_figure.value IS 'The figure.';

CREATE VIEW bloodcell.store_verification AS
SELECT run_id, started_at, ended_at, state, (detail->>'repair')::boolean AS is_repair,
       (detail->>'n_objects')::bigint AS n_objects, (detail->>'n_bytes')::bigint AS n_bytes,
       (detail->>'n_damaged')::bigint AS n_damaged, (detail->>'n_healed')::bigint AS n_healed,
       (detail->>'n_damaged')::bigint - (detail->>'n_healed')::bigint AS n_left,
       (detail->>'n_orphans')::bigint AS n_orphans, (detail->>'n_stale_parts')::bigint AS n_stale_parts,
       detail->'damaged' AS damaged, host, error
FROM bloodcell.run WHERE stage = 'verify_store';

COMMENT ON VIEW bloodcell.store_verification IS
    'Every verification of the store: whether it still holds the images, bundles and reports that rows refer to.';
COMMENT ON COLUMN bloodcell.store_verification.started_at IS 'When it began.';
COMMENT ON COLUMN bloodcell.store_verification.ended_at IS 'When it ended; empty while it is running.';
COMMENT ON COLUMN bloodcell.store_verification.state IS 'running, succeeded (whatever it found) or failed.';
COMMENT ON COLUMN bloodcell.store_verification.is_repair IS 'Whether damaged objects were to be healed.';
COMMENT ON COLUMN bloodcell.store_verification.n_objects IS 'Objects that were read.';
COMMENT ON COLUMN bloodcell.store_verification.n_bytes IS 'Their bytes.';
COMMENT ON COLUMN bloodcell.store_verification.n_damaged IS
    'Objects that were missing, truncated, altered or unreadable.';
COMMENT ON COLUMN bloodcell.store_verification.n_healed IS 'Of n_damaged, those that were replaced by a good copy.';
COMMENT ON COLUMN bloodcell.store_verification.n_left IS 'Of n_damaged, those that are still damaged.';
COMMENT ON COLUMN bloodcell.store_verification.n_orphans IS
    'Objects older than a day that no row refers to; they stay.';
COMMENT ON COLUMN bloodcell.store_verification.n_stale_parts IS
    'Unfinished files of killed writers, older than a day; a repair removes them.';
COMMENT ON COLUMN bloodcell.store_verification.damaged IS
    'The first hundred damaged objects as JSON: place in the store, problem, is_healed.';
COMMENT ON COLUMN bloodcell.store_verification.host IS 'Machine that verified.';
COMMENT ON COLUMN bloodcell.store_verification.error IS 'Why a failed verification failed.';
