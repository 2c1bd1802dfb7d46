-- name: old_images
-- Images of past nights that nothing needs any more: none of their cells has a label or, on a slide that stands, waits for
-- a call.
SELECT i.sha256, i.size_bytes FROM bloodcell.image i
WHERE i.removed_at IS NULL AND i.stored_at < :before AND i.sha256 > :after
  AND (CAST(:images AS text[]) IS NULL OR i.sha256 = ANY (:images))
  AND NOT EXISTS (
    SELECT FROM bloodcell.cell c WHERE c.sha256 = i.sha256 AND (
        c.night >= CAST(:before AS date)
        OR (NOT EXISTS (SELECT FROM bloodcell.cell_call k WHERE k.night = c.night AND k.cell_id = c.cell_id)
            AND EXISTS (SELECT FROM bloodcell.standing_slide s WHERE s.slide_id = c.slide_id))
        OR EXISTS (SELECT FROM bloodcell.label l WHERE l.cell_id = c.cell_id)))
  AND NOT EXISTS (SELECT FROM bloodcell.dataset_image d WHERE d.sha256 = i.sha256)
  AND NOT EXISTS (SELECT FROM bloodcell.sentinel n WHERE n.sha256 = i.sha256)
ORDER BY i.sha256 LIMIT :at_most

-- name: lock_images
-- An ingest that is about to refer to one of them waits.
SELECT sha256 FROM bloodcell.image WHERE sha256 = ANY (:images) ORDER BY sha256 FOR UPDATE

-- name: mark_removed
UPDATE bloodcell.image SET removed_at = clock_timestamp() WHERE sha256 = ANY (:images)

-- name: unused_snapshots
SELECT d.dataset_digest, count(*) FROM bloodcell.dataset d JOIN bloodcell.dataset_image USING (dataset_digest)
WHERE d.created_at < :before AND bloodcell.is_unused_snapshot(d.dataset_digest)
GROUP BY d.dataset_digest ORDER BY d.dataset_digest

-- name: forget_snapshot
SELECT bloodcell.forget_snapshot(:dataset_digest)
