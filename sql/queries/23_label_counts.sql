-- How many cells each person has labelled, by class.
--
-- Who asks: the person who organises the labelling, to see which classes lack labels and who could read them.
-- Set: since (first day of labelling; default: everything)
-- Read: one row per person and class; class empty: out of scope (blast, artefact ...), see example_code. n_cells counts
--   cells, n_labels all their labels with corrections; n_blind were read without seeing a call. Rows without a person
--   cover everybody.
\if :{?since}
\else
SELECT date '1900-01-01' AS since \gset
\endif

WITH given AS (
    SELECT labelled_by, class, label, cell_id, is_blind, labelled_at FROM bloodcell.cell_label
    WHERE labelled_at >= :'since'::date
)
SELECT labelled_by, class, count(DISTINCT cell_id) AS n_cells, count(*) AS n_labels,
       count(*) FILTER (WHERE is_blind) AS n_blind, min(label) FILTER (WHERE class IS NULL) AS example_code,
       max(labelled_at) AS last_labelled_at
FROM given
GROUP BY GROUPING SETS ((labelled_by, class), (class))
ORDER BY labelled_by NULLS LAST, n_cells DESC, class;
