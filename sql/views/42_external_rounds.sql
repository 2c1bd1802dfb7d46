CREATE VIEW bloodcell.external_round AS
SELECT r.name AS round, r.due, r.due > clock_timestamp() AND count(t.cell_id) = 0 AS is_open,
       count(c.cell_id) AS n_cells, count(t.cell_id) AS n_targets
FROM (SELECT DISTINCT ON (name) name, due FROM bloodcell.eqa_round ORDER BY name, round_id DESC) r
LEFT JOIN bloodcell.control_slide k USING (name)
LEFT JOIN bloodcell.standing_slide s USING (slide_id)
LEFT JOIN bloodcell.cell c ON c.slide_id = s.slide_id
LEFT JOIN LATERAL (SELECT g.cell_id FROM bloodcell.eqa_target g WHERE g.cell_id = c.cell_id LIMIT 1) t ON true
GROUP BY r.name, r.due;

COMMENT ON VIEW bloodcell.external_round IS 'Rounds of external quality assessment (EQA), from the quality file.';
COMMENT ON COLUMN bloodcell.external_round.round IS 'Name of the round.';
COMMENT ON COLUMN bloodcell.external_round.due IS 'Until when its cells can be read.';
COMMENT ON COLUMN bloodcell.external_round.is_open IS
    'Whether they can still be read: it is not due, and no target is known.';
COMMENT ON COLUMN bloodcell.external_round.n_cells IS 'Cells that have been ingested.';
COMMENT ON COLUMN bloodcell.external_round.n_targets IS 'Cells of which the organiser''s target is known.';

CREATE VIEW bloodcell.external_cell AS
SELECT r.round, r.is_open, c.cell_id, c.slide_id, c.night, s.barcode, c.file_name, c.sha256, t.class AS target_class,
       coalesce(t.sub_label, t.class) AS target
FROM bloodcell.external_round r
JOIN bloodcell.control_slide k ON k.name = r.round
JOIN bloodcell.standing_slide s USING (slide_id)
JOIN bloodcell.cell c ON c.slide_id = s.slide_id
LEFT JOIN LATERAL (SELECT g.class, g.sub_label FROM bloodcell.eqa_target g WHERE g.cell_id = c.cell_id
                   ORDER BY g.target_id DESC LIMIT 1) t ON true;

COMMENT ON VIEW bloodcell.external_cell IS 'The cells of the rounds of external quality assessment, with their targets.';
COMMENT ON COLUMN bloodcell.external_cell.round IS 'Name of the round.';
COMMENT ON COLUMN bloodcell.external_cell.is_open IS 'Whether it can still be read.';
COMMENT ON COLUMN bloodcell.external_cell.target_class IS 'Cell class of the target; empty: out of scope, or unknown.';
COMMENT ON COLUMN bloodcell.external_cell.target IS 'What the organiser says that it is; empty: unknown.';

CREATE VIEW bloodcell.external_reading AS
SELECT e.round, e.is_open, e.cell_id, o.person, o.read_at, o.session_id,
       CASE WHEN NOT e.is_open THEN coalesce(o.sub_label, o.class) END AS label,
       CASE WHEN NOT e.is_open THEN o.class END AS class
FROM bloodcell.external_cell e JOIN bloodcell.eqa_reading o USING (cell_id);

COMMENT ON VIEW bloodcell.external_reading IS
    'Who has read which cell of a round blind. What they said is shown once the round is over.';
COMMENT ON COLUMN bloodcell.external_reading.round IS 'Name of the round.';
COMMENT ON COLUMN bloodcell.external_reading.is_open IS 'Whether it can still be read.';
COMMENT ON COLUMN bloodcell.external_reading.person IS 'Who read it.';
COMMENT ON COLUMN bloodcell.external_reading.read_at IS 'When.';
COMMENT ON COLUMN bloodcell.external_reading.session_id IS 'Session of the review desk.';
COMMENT ON COLUMN bloodcell.external_reading.label IS 'What the person said, as a code or a class; empty until the round is over.';
COMMENT ON COLUMN bloodcell.external_reading.class IS 'Its cell class; empty for a code out of scope, or until the round is over.';

-- Cells that a person can still read blind: not read by the person, of a slide that the person has not opened.
CREATE OR REPLACE FUNCTION bloodcell.external_cells_for(a_person text) RETURNS TABLE (cell_id bigint, sha256 varchar)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT e.cell_id, e.sha256 FROM bloodcell.external_cell e JOIN bloodcell.image i USING (sha256)
    WHERE e.is_open AND i.removed_at IS NULL
      AND NOT EXISTS (SELECT FROM bloodcell.eqa_reading o WHERE o.cell_id = e.cell_id AND lower(o.person) = lower(a_person))
      AND NOT EXISTS (SELECT FROM bloodcell.label l WHERE l.cell_id = e.cell_id AND lower(l.labelled_by) = lower(a_person))
      AND NOT EXISTS (SELECT FROM bloodcell.slide_opening o
                      WHERE o.slide_id = e.slide_id AND lower(o.person) = lower(a_person))
$$;
REVOKE ALL ON FUNCTION bloodcell.external_cells_for(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION bloodcell.external_cells_for(text) TO bloodcell_app, bloodcell_desk;
COMMENT ON FUNCTION bloodcell.external_cells_for(text) IS
    'Cells of open rounds of external quality assessment that a person can still read blind.';

-- A person is right with the target's class, or with its code where that is out of scope; a finer code is not compared. A
-- model is right about a cell out of scope if it calls it nothing.
CREATE VIEW bloodcell.external_answer AS
SELECT e.round, e.cell_id, e.barcode, e.file_name, e.target, a.reader, a.model_id, a.label, a.is_answered,
       CASE WHEN e.target IS NULL THEN NULL
            WHEN e.target_class IS NOT NULL THEN a.class IS NOT DISTINCT FROM e.target_class
            WHEN a.model_id IS NULL THEN a.label = e.target
            ELSE NOT a.is_answered END AS agrees
FROM bloodcell.external_cell e
CROSS JOIN LATERAL (
    SELECT o.person AS reader, CAST(NULL AS varchar) AS model_id, coalesce(o.sub_label, o.class) AS label, o.class,
           true AS is_answered
    FROM bloodcell.eqa_reading o WHERE o.cell_id = e.cell_id
    UNION ALL
    SELECT m.variant, m.model_id, k.called_class, nullif(k.called_class, 'unclassified'), k.called_class <> 'unclassified'
    FROM bloodcell.cell_call k JOIN bloodcell.model m USING (model_id)
    WHERE k.cell_id = e.cell_id AND k.night = e.night
) a
WHERE NOT e.is_open;

COMMENT ON VIEW bloodcell.external_answer IS
    'What people and models said of the cells of rounds that are over, beside the organiser''s targets.';
COMMENT ON COLUMN bloodcell.external_answer.round IS 'Name of the round.';
COMMENT ON COLUMN bloodcell.external_answer.target IS 'What the organiser says that the cell is; empty: not brought in yet.';
COMMENT ON COLUMN bloodcell.external_answer.reader IS 'The person, or the variant of the model.';
COMMENT ON COLUMN bloodcell.external_answer.model_id IS 'The model; empty for a person.';
COMMENT ON COLUMN bloodcell.external_answer.label IS 'What was said: a code, a class, or unclassified.';
COMMENT ON COLUMN bloodcell.external_answer.is_answered IS 'false: the model left the cell unclassified.';
COMMENT ON COLUMN bloodcell.external_answer.agrees IS 'Whether that is the target; empty without one.';

CREATE VIEW bloodcell.external_score AS
SELECT a.round, a.reader, a.model_id, count(a.target) AS n_cells, count(*) FILTER (WHERE a.target IS NOT NULL AND a.is_answered)
       AS n_answered, count(*) FILTER (WHERE a.agrees) AS n_agreed
FROM bloodcell.external_answer a
GROUP BY a.round, a.reader, a.model_id
HAVING count(a.target) > 0;

COMMENT ON VIEW bloodcell.external_score IS
    'The score of each person and model in each round that is over: cells with a target that were read, and how many agree.';
COMMENT ON COLUMN bloodcell.external_score.round IS 'Name of the round.';
COMMENT ON COLUMN bloodcell.external_score.reader IS 'The person, or the variant of the model.';
COMMENT ON COLUMN bloodcell.external_score.model_id IS 'The model; empty for a person.';
COMMENT ON COLUMN bloodcell.external_score.n_cells IS 'Cells with a target that the person has read, or the model has seen.';
COMMENT ON COLUMN bloodcell.external_score.n_answered IS 'Those that were given a class or a code.';
COMMENT ON COLUMN bloodcell.external_score.n_agreed IS 'Those that agree with the target.';
