-- name: sampled
-- Cells of the random samples of thirty nights, and of the external rounds that are open.
SELECT d.cell_id, c.sha256 FROM bloodcell.random_sample d JOIN bloodcell.slide_cell c USING (cell_id)
WHERE d.night >= (SELECT max(night) - 30 FROM bloodcell.random_sample) AND c.withdrawn_at IS NULL
UNION
SELECT cell_id, sha256 FROM bloodcell.external_cell WHERE is_open

-- name: sample
-- The same or some of them, and whether the person can still read each blind. Those of external rounds come first: they are due.
SELECT e.cell_id, e.sha256, w.cell_id IS NOT NULL AS is_waiting, r.cell_id IS NOT NULL AS is_read_by_person,
       CAST(NULL AS date) AS night
FROM bloodcell.external_cell e
LEFT JOIN bloodcell.external_cells_for(:person) w ON w.cell_id = e.cell_id
LEFT JOIN bloodcell.external_reading r ON r.cell_id = e.cell_id AND lower(r.person) = lower(:person)
WHERE e.is_open AND (CAST(:cells AS bigint[]) IS NULL OR e.cell_id = ANY (:cells))
UNION ALL
SELECT d.cell_id, c.sha256, b.cell_id IS NOT NULL AS is_waiting,
       l.cell_id IS NOT NULL AND l.is_blind AS is_read_by_person, d.night
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
ORDER BY night NULLS FIRST, sha256, cell_id

-- name: read_lately
-- What the person has read within a day: a reading that is sent again, because its answer was lost, was stored.
SELECT DISTINCT l.cell_id, l.sha256 FROM bloodcell.cell_label l
WHERE lower(l.labelled_by) = lower(:person) AND l.source = 'desk' AND l.recorded_at > now() - interval '1 day'
  AND l.withdrawn_at IS NULL

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
