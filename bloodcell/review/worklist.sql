-- name: newest_night
SELECT max(night) FROM bloodcell.standing_slide

-- name: facts
-- Who has a slide, how many people have labelled cells of it, and codes out of scope that nobody has labelled.
SELECT s.slide_id, l.person AS holder, coalesce(p.n_unverified, 0) AS n_unverified, coalesce(n.n_people, 0) AS n_people,
       EXISTS (SELECT 1 FROM bloodcell.control_slide_history q WHERE q.slide_id = s.slide_id) AS is_control
FROM bloodcell.standing_slide s
LEFT JOIN bloodcell.slide_lease_now l USING (slide_id)
LEFT JOIN LATERAL (
    SELECT h.n_unverified FROM bloodcell.newest_version v JOIN bloodcell.count_history h USING (report_id)
    WHERE v.slide_id = s.slide_id LIMIT 1
) p ON true
LEFT JOIN (
    SELECT c.slide_id, count(DISTINCT l.labelled_by) AS n_people
    FROM bloodcell.standing_label l JOIN bloodcell.slide_cell c USING (cell_id)
    WHERE CAST(:since AS date) IS NULL OR c.night >= :since GROUP BY c.slide_id
) n ON n.slide_id = s.slide_id
WHERE CAST(:since AS date) IS NULL OR s.night >= :since
