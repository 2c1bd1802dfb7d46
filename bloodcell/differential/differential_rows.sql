-- name: lock_slides
-- The reports of a withdrawn slide stay as they were. A view cannot be locked, so this is the rule of standing_slide.
SELECT slide_id FROM bloodcell.slide WHERE slide_id = ANY (:slides) AND withdrawn_at IS NULL
ORDER BY slide_id FOR NO KEY UPDATE

-- name: nights_of_slides
SELECT DISTINCT night FROM bloodcell.cell WHERE slide_id = ANY (:slides)

-- name: counted_slides
-- Counts of the slides that a model has called completely: one row for each slide, model and line. A person's standing
-- label decides before the analyser's code out of scope, and that before the call. One statement, so that all of it is of
-- one moment: a slide with a cell of a night that came after `nights` is not called completely. Without the nights, every
-- call there is was read twice: 2.5 s instead of 0.1 s for the 83 slides of a night among ten million calls. The digests
-- are described in docs/how-to/results.md.
WITH slide_cell AS MATERIALIZED (
    SELECT c.cell_id, c.night, c.slide_id, c.sha256, c.analyser_code, c.analyser_class,
           coalesce(d.is_labelled, false) AS is_labelled, d.line AS decided, coalesce(d.is_blast, false) AS is_blast,
           coalesce(d.line || ' ' || d.contested_labels, d.line) AS said
    FROM bloodcell.cell c
    -- looked up cell by cell: where the planner expected 60 cells, a join of the 2,000 of a slide took 29 s instead of 0.1 s
    LEFT JOIN LATERAL (SELECT * FROM bloodcell.decided_cell o WHERE o.cell_id = c.cell_id LIMIT 1) d ON true
    WHERE c.slide_id = ANY (:slides)
), of_slide AS (
    SELECT c.slide_id, count(*) AS n_cells, count(*) FILTER (WHERE c.is_blast) AS n_blasts,
           encode(sha256(convert_to(coalesce(string_agg(c.sha256 || ' ' || c.said || E'\n', '' ORDER BY c.sha256 COLLATE "C")
                                             FILTER (WHERE c.is_labelled), ''), 'UTF8')), 'hex') AS labels_digest
    FROM slide_cell c GROUP BY c.slide_id
), labels AS (
    SELECT c.slide_id, count(*) AS n_labels FROM slide_cell c JOIN bloodcell.label USING (cell_id) GROUP BY c.slide_id
), called AS (
    SELECT c.slide_id, k.model_id, count(*) AS n_called, max(k.called_at) AS called_at,
           encode(sha256(convert_to(string_agg(
               c.sha256 || ' ' || k.called_class || ' ' || coalesce(c.analyser_code, '-') || E'\n', ''
               ORDER BY c.sha256 COLLATE "C"), 'UTF8')), 'hex') AS calls_digest,
           count(*) FILTER (WHERE c.analyser_class IS NOT NULL AND k.called_class <> 'unclassified') AS n_compared,
           count(*) FILTER (WHERE c.analyser_class = k.called_class) AS n_agree
    FROM slide_cell c JOIN bloodcell.cell_call k USING (cell_id, night) WHERE k.night = ANY (:nights)
    GROUP BY c.slide_id, k.model_id
), by_line AS (
    SELECT c.slide_id, k.model_id, coalesce(c.decided, k.called_class) AS line, count(*) AS n_cells,
           count(*) FILTER (WHERE c.is_labelled) AS n_labelled,
           count(*) FILTER (WHERE c.decided IS NOT NULL AND NOT c.is_labelled) AS n_unverified
    FROM slide_cell c JOIN bloodcell.cell_call k USING (cell_id, night) WHERE k.night = ANY (:nights)
    GROUP BY c.slide_id, k.model_id, 3
)
SELECT b.*, d.n_compared, d.n_agree, d.called_at, d.calls_digest, o.labels_digest, o.n_blasts,
       coalesce(n.n_labels, 0) AS n_labels, s.age_months, s.sex, s.wbc_10e9_per_l, s.wbc_is_corrected
FROM by_line b
JOIN called d USING (slide_id, model_id)
JOIN of_slide o ON o.slide_id = b.slide_id AND o.n_cells = d.n_called
JOIN bloodcell.slide_facts s ON s.slide_id = b.slide_id
LEFT JOIN labels n ON n.slide_id = b.slide_id
ORDER BY b.slide_id, b.model_id

-- name: newest_reports
-- The newest count of these slides by each model.
SELECT r.* FROM bloodcell.newest_count n JOIN bloodcell.slide_report r USING (report_id) WHERE n.slide_id = ANY (:slides)

-- name: lines_of_reports
SELECT * FROM bloodcell.differential WHERE report_id = ANY (:reports)

-- name: keep_rules
INSERT INTO bloodcell.laboratory_rules (rules_digest, version, document)
VALUES (:rules_digest, :version, CAST(:document AS jsonb)) ON CONFLICT DO NOTHING
