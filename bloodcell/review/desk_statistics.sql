-- Only views: the role of the desk may read nothing else. Times are half-open: since <= at < until.

-- name: period
-- The days asked for as moments of the database's time zone; without days the thirty that end today.
SELECT p.first, p.last, CAST(p.first AS timestamptz) AS since, CAST(p.last + 1 AS timestamptz) AS until
FROM (SELECT coalesce(CAST(:first AS date), coalesce(CAST(:last AS date), current_date) - 29) AS first,
             coalesce(CAST(:last AS date), current_date) AS last) p

-- name: labels
-- What people said with the call in sight, and what the reported model called the cell. Two groups of rows: for each person,
-- call and label (slide_id is empty) how many labels of the period; and for each slide (labelled_by is empty) how many of its
-- cells a label changed, with the labels of the fortnight before. A cell without a name is not changed but named. Only cells of
-- the period's nights and the month before, so that the calls of other months are not read.
WITH label AS MATERIALIZED (
    SELECT l.cell_id, l.labelled_by, coalesce(l.class, l.sub_label) AS label, l.labelled_at >= :since AS is_in_period
    FROM bloodcell.standing_label l
    WHERE NOT l.is_blind AND l.labelled_at >= CAST(:since AS timestamptz) - interval '14 days' AND l.labelled_at < :until
), called AS (
    SELECT k.slide_id, k.cell_id, l.labelled_by, k.called_class, l.label, l.is_in_period,
           CASE WHEN k.analyser_code IS NOT NULL AND k.analyser_class IS NULL THEN upper(k.analyser_code)
                ELSE k.called_class END AS before
    FROM label l JOIN bloodcell.cell_result k USING (cell_id)
    WHERE k.is_reported AND k.night BETWEEN CAST(:since AS date) - 31 AND CAST(:until AS date)
)
SELECT slide_id, labelled_by, called_class, label, count(*) FILTER (WHERE is_in_period) AS n,
       count(DISTINCT cell_id) FILTER (WHERE label <> before AND before NOT IN ('unclassified', 'NC', 'OTH')) AS n_changed
FROM called
GROUP BY GROUPING SETS ((labelled_by, called_class, label), (slide_id))

-- name: signatures
-- Signatures of the period, and the minutes that the person spent on the slide before: after each action of a person the time
-- until the next one, on whatever slide, is counted for the slide of the first, unless it is longer than :idle_s.
WITH event AS (
    SELECT a.slide_id, lower(a.person) AS person, a.at, a.action = 'signed' AS is_signature,
           extract(epoch FROM lead(a.at) OVER (PARTITION BY lower(a.person) ORDER BY a.at) - a.at) AS gap_s
    FROM bloodcell.slide_action a
    WHERE a.session_id IS NOT NULL AND a.at >= CAST(:since AS timestamptz) - interval '14 days' AND a.at < :until
), in_round AS (
    SELECT e.*, count(*) FILTER (WHERE e.is_signature) OVER (
               PARTITION BY e.slide_id, e.person ORDER BY e.at ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS round
    FROM event e
), spent AS (
    SELECT slide_id, max(at) FILTER (WHERE is_signature) AS at, person,
           sum(gap_s) FILTER (WHERE NOT is_signature AND gap_s <= :idle_s) / 60 AS minutes,
           count(*) FILTER (WHERE NOT is_signature AND gap_s > :idle_s) AS n_idle
    FROM in_round GROUP BY slide_id, person, round HAVING bool_or(is_signature)
)
SELECT a.slide_id, a.at, a.person, a.version, CAST(s.minutes AS double precision) AS minutes, coalesce(s.n_idle, 0) AS n_idle
FROM bloodcell.slide_action a
LEFT JOIN spent s ON s.slide_id = a.slide_id AND s.person = lower(a.person) AND s.at = a.at
WHERE a.action = 'signed' AND a.at >= :since AND a.at < :until
ORDER BY a.at

-- name: versions
SELECT v.slide_id, v.version, v.signed_by, v.withheld_for, v.review_for, v.n_cells, 'labels' = ANY (v.causes) AS is_of_labels
FROM bloodcell.result_version v WHERE v.slide_id = ANY (:slides) ORDER BY v.slide_id, v.version

-- name: blind_pairs
-- Cells of the random samples that two people read blind: what one said, and what the other said.
SELECT a.labelled_by AS one, b.labelled_by AS other, coalesce(a.class, a.sub_label) AS label,
       coalesce(b.class, b.sub_label) AS other_label, count(*) AS n
FROM bloodcell.blind_label a JOIN bloodcell.blind_label b USING (cell_id)
WHERE lower(a.labelled_by) < lower(b.labelled_by) AND greatest(a.labelled_at, b.labelled_at) >= :since
  AND greatest(a.labelled_at, b.labelled_at) < :until
GROUP BY 1, 2, 3, 4

-- name: blind_progress
SELECT d.night, count(*) + count(*) FILTER (WHERE d.is_read_twice) AS n_wanted,
       coalesce(sum(least(coalesce(r.n, 0), CASE WHEN d.is_read_twice THEN 2 ELSE 1 END)), 0) AS n_read, count(*) AS n_cells
FROM bloodcell.random_sample d
LEFT JOIN (SELECT b.cell_id, count(*) AS n FROM bloodcell.blind_label b GROUP BY b.cell_id) r USING (cell_id)
WHERE d.night >= :first AND d.night <= :last
GROUP BY d.night ORDER BY d.night
