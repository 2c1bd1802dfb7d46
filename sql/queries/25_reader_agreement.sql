-- How often two people label the same cell alike, and how far beyond chance: Cohen's kappa.
--
-- Who asks: the quality manager; anyone who wonders how good a model could be at best.
-- Set: nothing
-- Read: one row per pair of people, blindness and level. blind t: both read without seeing a call; f: at least one of them
--   saw it. People agree more when they see what a machine proposes, so compare the two rows of a pair. level class: the
--   eight classes, and each code out of scope: a blast is no variant lymphocyte. level code: also the finer codes, of cells
--   for which both gave one (SNE or BNE; PMY, MY or MMY). agreement and kappa: 1 perfect, 0 chance. An adjudication does
--   not count as a reading.
-- Source: Cohen, A coefficient of agreement for nominal scales, Educational and Psychological Measurement 20 (1960)
--   37-46.
WITH newest AS (
    SELECT DISTINCT ON (cell_id, labelled_by) cell_id, labelled_by, coalesce(class, sub_label) AS class, sub_label, is_blind
    FROM bloodcell.cell_label WHERE NOT is_adjudication
    ORDER BY cell_id, labelled_by, labelled_at DESC, label_id DESC
), readings AS (
    SELECT cell_id, labelled_by, 'class' AS level, class, is_blind FROM newest
    UNION ALL
    SELECT cell_id, labelled_by, 'code', sub_label, is_blind FROM newest WHERE sub_label IS NOT NULL
), pairs AS (
    SELECT a.labelled_by AS reader, b.labelled_by AS other, a.is_blind AND b.is_blind AS blind, level, a.class,
           b.class AS other_class, count(*) AS n
    FROM readings a JOIN readings b USING (cell_id, level) WHERE a.labelled_by < b.labelled_by
    GROUP BY 1, 2, 3, 4, 5, 6
), totals AS (
    SELECT reader, other, blind, level, sum(n) AS n, coalesce(sum(n) FILTER (WHERE class = other_class), 0) AS n_agree
    FROM pairs GROUP BY reader, other, blind, level
), ours AS (
    SELECT reader, other, blind, level, class, sum(n) AS n FROM pairs GROUP BY 1, 2, 3, 4, 5
), theirs AS (
    SELECT reader, other, blind, level, other_class AS class, sum(n) AS n FROM pairs GROUP BY 1, 2, 3, 4, 5
), chance AS (
    SELECT o.reader, o.other, o.blind, o.level, sum(o.n * t.n) AS n_pairs
    FROM ours o JOIN theirs t USING (reader, other, blind, level, class) GROUP BY o.reader, o.other, o.blind, o.level
), shares AS (
    SELECT t.reader, t.other, t.blind, t.level, t.n, t.n_agree, t.n_agree / t.n AS agreement,
           coalesce(c.n_pairs, 0) / (t.n * t.n) AS expected
    FROM totals t LEFT JOIN chance c USING (reader, other, blind, level)
)
SELECT reader, other, blind, level, n AS n_cells, n_agree, round(agreement, 4) AS agreement, round(expected, 4) AS expected,
       round((agreement - expected) / nullif(1 - expected, 0), 4) AS kappa
FROM shares
ORDER BY reader, other, blind DESC, level;
