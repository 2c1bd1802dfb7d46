-- name: waiting
-- Cells that a second person has to read, of slides that wait for a signature, without those that this person has labelled. The
-- function takes a millisecond for each slide, so that it is asked only of slides with a label out of scope. OFFSET 0: each cell
-- that waits is looked up, instead of all cells that the person has ever labelled.
SELECT w.cell_id, c.sha256
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
ORDER BY c.sha256, w.cell_id
