-- What waits for a person on each page. OFFSET 0: each cell that waits is looked up. Without it Postgres reads all cells that
-- the person has ever labelled, and those of all slides that the person has ever opened: with 100,000 labels 0.3 s a page.

-- name: blind
-- Cells of the random samples, and of the external rounds that are open, that the person can still read blind.
SELECT (SELECT count(*) FROM bloodcell.external_cells_for(:person)) + count(*) FROM bloodcell.blind_reading b
WHERE b.night >= (SELECT max(night) - 30 FROM bloodcell.random_sample)
  AND NOT EXISTS (SELECT 1 FROM bloodcell.cell_label l
                  WHERE l.cell_id = b.cell_id AND lower(l.labelled_by) = lower(:person) OFFSET 0)
  AND NOT EXISTS (SELECT 1 FROM bloodcell.slide_opening_history o JOIN bloodcell.slide_cell c USING (slide_id)
                  WHERE c.cell_id = b.cell_id AND lower(o.person) = lower(:person) OFFSET 0)

-- name: contested
-- Contested cells to which the person is no party.
SELECT count(DISTINCT d.cell_id) FROM bloodcell.contested_cell d
WHERE NOT EXISTS (SELECT 1 FROM bloodcell.cell_label l
                  WHERE l.cell_id = d.cell_id AND lower(l.labelled_by) = lower(:person) AND NOT l.is_adjudication OFFSET 0)

-- name: messages
-- Messages to other systems that were rejected.
SELECT count(*) FROM bloodcell.message WHERE state = 'held'

-- name: quality
-- Failed checks that hold results.
SELECT count(*) FROM bloodcell.failed_check f
WHERE f.kind <> 'sentinel' OR EXISTS (SELECT FROM bloodcell.quality_hold h WHERE h.check_id = f.check_id)
