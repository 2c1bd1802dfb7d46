-- Only the newest check of one thing counts: more cells, or calls that were made again, have been checked again. A newer
-- check that fails is another one than that which a person has overridden. One that could not judge replaces none, and what
-- a worker computed for its sentinels stays true of the calls that it made then.
CREATE VIEW bloodcell.failed_check AS
SELECT q.check_id, q.kind, q.subject, q.night, q.analyser, q.whole_night, q.model_id, q.called_by, q.reason, q.checked_at
FROM bloodcell.quality_check q
WHERE NOT q.passed
  AND NOT EXISTS (SELECT FROM bloodcell.quality_override o WHERE o.check_id = q.check_id)
  AND (q.kind = 'sentinel'
       OR NOT EXISTS (SELECT FROM bloodcell.quality_check n WHERE n.key = q.key AND n.check_id > q.check_id AND n.judged));

COMMENT ON VIEW bloodcell.failed_check IS
    'Checks of the quality control that failed, that nobody has overridden, and that no newer check of the same replaces.';
COMMENT ON COLUMN bloodcell.failed_check.check_id IS 'Key of the check.';
COMMENT ON COLUMN bloodcell.failed_check.kind IS 'sentinel, control or figure.';
COMMENT ON COLUMN bloodcell.failed_check.subject IS 'The machine, the control slide or control, or the figure.';
COMMENT ON COLUMN bloodcell.failed_check.night IS 'The night; empty for a worker that called slides of no named night.';
COMMENT ON COLUMN bloodcell.failed_check.analyser IS 'The analyser; empty: unknown, or none alone.';
COMMENT ON COLUMN bloodcell.failed_check.whole_night IS 'Whether it holds the slides of all analysers.';
COMMENT ON COLUMN bloodcell.failed_check.model_id IS 'The model whose calls were checked; empty: the images were.';
COMMENT ON COLUMN bloodcell.failed_check.called_by IS 'Run whose calls a sentinel that differs holds; else empty.';
COMMENT ON COLUMN bloodcell.failed_check.reason IS 'What failed, and what to do.';
COMMENT ON COLUMN bloodcell.failed_check.checked_at IS 'When the check was made.';

CREATE VIEW bloodcell.quality_hold AS
SELECT DISTINCT c.slide_id, f.check_id, f.model_id
FROM bloodcell.failed_check f
JOIN bloodcell.cell c ON c.night = f.night
JOIN bloodcell.slide s ON s.slide_id = c.slide_id
WHERE f.kind <> 'sentinel' AND (f.whole_night OR f.analyser = s.analyser)
UNION ALL
SELECT DISTINCT c.slide_id, f.check_id, f.model_id
FROM bloodcell.failed_check f
JOIN bloodcell.cell_call k ON k.run_id = f.called_by AND k.model_id = f.model_id AND k.night = f.night
JOIN bloodcell.cell c ON c.cell_id = k.cell_id AND c.night = k.night
WHERE f.kind = 'sentinel' AND f.night IS NOT NULL
UNION ALL
SELECT DISTINCT c.slide_id, f.check_id, f.model_id
FROM bloodcell.failed_check f
JOIN bloodcell.cell_call k ON k.run_id = f.called_by AND k.model_id = f.model_id
JOIN bloodcell.cell c ON c.cell_id = k.cell_id AND c.night = k.night
WHERE f.kind = 'sentinel' AND f.night IS NULL;

COMMENT ON VIEW bloodcell.quality_hold IS
    'The failed checks that hold what a model (empty: any) says of a slide: its result may be neither signed nor sent. '
    'Always filter on slide_id.';
COMMENT ON COLUMN bloodcell.quality_hold.check_id IS 'The check; see failed_check.';
COMMENT ON COLUMN bloodcell.quality_hold.model_id IS 'The model whose calls it holds; empty: any.';

CREATE VIEW bloodcell.control_slide_history AS
SELECT c.slide_id, s.barcode, s.night, s.analyser, c.name, c.found_at, c.run_id
FROM bloodcell.control_slide c JOIN bloodcell.slide s USING (slide_id);

COMMENT ON VIEW bloodcell.control_slide_history IS 'Slides of control material and of external rounds: they are never signed or sent.';
COMMENT ON COLUMN bloodcell.control_slide_history.name IS 'Name of the control, or of the round, in the quality file.';
COMMENT ON COLUMN bloodcell.control_slide_history.found_at IS 'When it was found to be one.';

CREATE VIEW bloodcell.quality_history AS
SELECT q.check_id, q.kind, q.subject, q.night, q.analyser, q.whole_night, q.model_id, m.variant, q.passed, q.judged, q.value,
       q.center, q.lower, q.upper, q.reason, q.figures, q.checked_at, o.overridden_by, o.overridden_at,
       o.reason AS override_reason, n.is_newest,
       EXISTS (SELECT FROM bloodcell.failed_check f WHERE f.check_id = q.check_id) AS holds, q.called_by, q.run_id
FROM bloodcell.quality_check q
LEFT JOIN bloodcell.model m USING (model_id)
LEFT JOIN bloodcell.quality_override o USING (check_id)
CROSS JOIN LATERAL (
    SELECT NOT EXISTS (SELECT FROM bloodcell.quality_check l WHERE l.key = q.key AND l.check_id > q.check_id) AS is_newest
) n;

COMMENT ON VIEW bloodcell.quality_history IS
    'Every check of the quality control. Filter on holds for what holds results now, on is_newest for charts.';
COMMENT ON COLUMN bloodcell.quality_history.check_id IS 'Key of the check.';
COMMENT ON COLUMN bloodcell.quality_history.kind IS
    'sentinel (stored cells that a worker called again), control (control slide) or figure (moving figure of an analyser).';
COMMENT ON COLUMN bloodcell.quality_history.subject IS 'The machine, the control slide or control, or the figure.';
COMMENT ON COLUMN bloodcell.quality_history.night IS 'The night; empty for a worker that called slides of no named night.';
COMMENT ON COLUMN bloodcell.quality_history.analyser IS 'The analyser; empty: unknown, or none alone.';
COMMENT ON COLUMN bloodcell.quality_history.whole_night IS 'Whether a failure holds the slides of all analysers.';
COMMENT ON COLUMN bloodcell.quality_history.model_id IS 'The model whose calls were checked; empty: the images were.';
COMMENT ON COLUMN bloodcell.quality_history.passed IS 'false: results are held until a person overrides.';
COMMENT ON COLUMN bloodcell.quality_history.judged IS 'false: there was too little to judge.';
COMMENT ON COLUMN bloodcell.quality_history.value IS
    'What was measured: the largest difference of a probability, the figure of the images, or the percentage of slides '
    'above the median of the baseline.';
COMMENT ON COLUMN bloodcell.quality_history.center IS 'What was expected.';
COMMENT ON COLUMN bloodcell.quality_history.lower IS 'Lower control limit.';
COMMENT ON COLUMN bloodcell.quality_history.upper IS 'Upper control limit.';
COMMENT ON COLUMN bloodcell.quality_history.reason IS 'The outcome in a sentence.';
COMMENT ON COLUMN bloodcell.quality_history.figures IS 'What the outcome rests on, as JSON.';
COMMENT ON COLUMN bloodcell.quality_history.checked_at IS 'When the check was made.';
COMMENT ON COLUMN bloodcell.quality_history.overridden_by IS 'Who overrode the failed check; empty: nobody.';
COMMENT ON COLUMN bloodcell.quality_history.overridden_at IS 'When.';
COMMENT ON COLUMN bloodcell.quality_history.override_reason IS 'Why, in that person''s words.';
COMMENT ON COLUMN bloodcell.quality_history.is_newest IS 'Whether no newer check of the same replaces it.';
COMMENT ON COLUMN bloodcell.quality_history.holds IS 'Whether it holds results now.';
COMMENT ON COLUMN bloodcell.quality_history.called_by IS 'Run whose calls a sentinel that differs holds; else empty.';
