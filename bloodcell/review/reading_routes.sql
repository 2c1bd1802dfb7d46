-- name: sampled
-- Cells of the random samples of thirty nights.
SELECT d.cell_id, c.sha256 FROM bloodcell.random_sample d JOIN bloodcell.slide_cell c USING (cell_id)
WHERE d.night >= (SELECT max(night) - 30 FROM bloodcell.random_sample) AND c.withdrawn_at IS NULL

-- name: sample
-- The same or some of them, and whether the person can still read each blind.
SELECT d.cell_id, c.sha256, b.cell_id IS NOT NULL AS is_waiting,
       l.cell_id IS NOT NULL AND l.is_blind AS is_read_by_person
FROM bloodcell.random_sample d
JOIN bloodcell.slide_cell c USING (cell_id)
LEFT JOIN LATERAL (
    SELECT o.cell_id, bool_or(o.is_blind) AS is_blind FROM bloodcell.cell_label o
    WHERE o.cell_id = d.cell_id AND lower(o.labelled_by) = lower(:person) GROUP BY o.cell_id
) l ON true
LEFT JOIN bloodcell.blind_reading b ON b.cell_id = d.cell_id AND l.cell_id IS NULL AND NOT EXISTS (
    SELECT 1 FROM bloodcell.slide_opening_history o
    WHERE o.slide_id = c.slide_id AND lower(o.person) = lower(:person))
WHERE d.night >= (SELECT max(night) - 30 FROM bloodcell.random_sample) AND c.withdrawn_at IS NULL
  AND (CAST(:cells AS bigint[]) IS NULL OR d.cell_id = ANY (:cells))
ORDER BY d.night, c.sha256, d.cell_id

-- name: second
-- Cells that a second person has to read, of slides that wait for a signature, without those that this person has labelled. The
-- function takes a millisecond for each slide, so that it is asked only of slides with a label out of scope.
SELECT w.cell_id, c.sha256, true AS is_waiting
FROM bloodcell.newest_version v
JOIN bloodcell.standing_slide s USING (slide_id)
CROSS JOIN LATERAL bloodcell.cells_for_second_reader(v.slide_id, :rules_digest) w
JOIN bloodcell.slide_cell c ON c.cell_id = w.cell_id
WHERE s.night >= (SELECT max(night) - 30 FROM bloodcell.standing_slide)
  AND v.slide_id = ANY (ARRAY(SELECT n.slide_id FROM bloodcell.cell_label o JOIN bloodcell.slide_cell n USING (cell_id)
                              WHERE o.class IS NULL AND NOT o.is_retraction))
  AND (v.signed_by IS NULL OR EXISTS (  -- or somebody has labelled cells since
       SELECT 1 FROM bloodcell.slide_action a WHERE a.slide_id = v.slide_id AND a.at > v.made_at AND a.label IS NOT NULL))
  AND c.image_removed_at IS NULL
  AND NOT EXISTS (SELECT 1 FROM bloodcell.standing_label l
                  WHERE l.cell_id = w.cell_id AND lower(l.labelled_by) = lower(:person) OFFSET 0)
UNION ALL
-- what the person has read lately: a reading that is sent again, because its answer was lost, was stored
SELECT DISTINCT l.cell_id, l.sha256, false FROM bloodcell.cell_label l
WHERE lower(l.labelled_by) = lower(:person) AND l.source = 'desk' AND l.recorded_at > now() - interval '1 day'
  AND l.withdrawn_at IS NULL
ORDER BY sha256, cell_id

-- name: disputes
-- Contested cells to which the person is no party.
SELECT d.cell_id, c.slide_id, d.barcode, d.label, d.labelled_by, d.labelled_at, d.note,
       (SELECT max(n.label_id) FROM bloodcell.cell_label n WHERE n.cell_id = d.cell_id) AS seen
FROM bloodcell.contested_cell d JOIN bloodcell.slide_cell c USING (cell_id)
WHERE NOT EXISTS (SELECT 1 FROM bloodcell.cell_label l
                  WHERE l.cell_id = d.cell_id AND lower(l.labelled_by) = lower(:person) AND NOT l.is_adjudication)
ORDER BY d.night DESC, d.barcode, d.cell_id, d.labelled_at

-- name: slides
SELECT DISTINCT slide_id FROM bloodcell.slide_cell WHERE cell_id = ANY (:cells)
