-- name: pending
SELECT erasure_id, kind, value FROM bloodcell.erasure_pending ORDER BY erasure_id, kind, value

-- name: lock_images
-- An ingest that is about to refer to one of the images waits, and then looks whether it is still there.
LOCK TABLE bloodcell.image IN SHARE ROW EXCLUSIVE MODE

-- name: unused_images
SELECT p.value FROM bloodcell.erasure_pending p
WHERE p.kind = 'image' AND p.value = ANY (:images) AND NOT EXISTS (
    SELECT FROM bloodcell.image i WHERE i.sha256 = p.value)
  AND NOT EXISTS (SELECT FROM bloodcell.drop_file f WHERE f.stored_sha256 = p.value)

-- name: done
DELETE FROM bloodcell.erasure_pending WHERE erasure_id = :erasure_id AND kind = :kind AND value = ANY (:values)

-- name: count
INSERT INTO bloodcell.erasure_removal (erasure_id, part, n) VALUES (:erasure_id, :part, :n)
