-- name: waiting
-- What waits for a person: cells of the random samples that the person can still read blind, and contested cells to which the
-- person is no party.
SELECT (SELECT count(*) FROM bloodcell.blind_reading b
        WHERE b.night >= current_date - 30
          AND NOT EXISTS (SELECT 1 FROM bloodcell.cell_label l
                          WHERE l.cell_id = b.cell_id AND lower(l.labelled_by) = lower(:person))
          AND NOT EXISTS (SELECT 1 FROM bloodcell.slide_opening_history o JOIN bloodcell.slide_cell c USING (slide_id)
                          WHERE c.cell_id = b.cell_id AND lower(o.person) = lower(:person))) AS n_blind,
       (SELECT count(DISTINCT d.cell_id) FROM bloodcell.contested_cell d
        WHERE NOT EXISTS (SELECT 1 FROM bloodcell.standing_label l
                          WHERE l.cell_id = d.cell_id AND lower(l.labelled_by) = lower(:person))) AS n_contested,
       -- most laboratories ask for no second reader, and each slide takes a millisecond
       CASE WHEN :has_second_reader THEN (
        SELECT count(*)
        FROM bloodcell.newest_version v
        JOIN bloodcell.standing_slide s USING (slide_id)
        CROSS JOIN LATERAL bloodcell.cells_for_second_reader(v.slide_id, :rules_digest) w
        WHERE s.night >= (SELECT max(night) - 30 FROM bloodcell.standing_slide)
  AND (v.signed_by IS NULL OR EXISTS (  -- or somebody has labelled cells since
       SELECT 1 FROM bloodcell.slide_action a WHERE a.slide_id = v.slide_id AND a.at > v.made_at AND a.label IS NOT NULL))
          AND NOT EXISTS (SELECT 1 FROM bloodcell.standing_label l
                          WHERE l.cell_id = w.cell_id AND lower(l.labelled_by) = lower(:person))
       ) ELSE 0 END AS n_second
