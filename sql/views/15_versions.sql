-- The newest signed version of a slide counts, or else the newest. The rule is defined only here.
CREATE VIEW bloodcell.result_in_force AS
SELECT DISTINCT ON (r.slide_id) r.slide_id, r.result_id, r.number, r.state, r.report_id, r.causes, r.withheld_for, r.review_for,
       r.digest, r.made_at, r.run_id, r.signed_by, r.reason
FROM bloodcell.result r
ORDER BY r.slide_id, (r.signed_by IS NOT NULL) DESC, r.number DESC;

COMMENT ON VIEW bloodcell.result_in_force IS
    'The version of each slide''s result that counts, also of a withdrawn slide. Always filter on slide_id.';
COMMENT ON COLUMN bloodcell.result_in_force.result_id IS 'Key of the version.';
COMMENT ON COLUMN bloodcell.result_in_force.number IS '1 for the slide''s first version, and so on.';
COMMENT ON COLUMN bloodcell.result_in_force.state IS 'machine, withheld, final, amended or corrected.';
COMMENT ON COLUMN bloodcell.result_in_force.report_id IS 'Key of the count.';

CREATE VIEW bloodcell.newest_version AS
SELECT DISTINCT ON (r.slide_id) r.slide_id, r.result_id, r.number, r.state, r.report_id, r.withheld_for, r.review_for,
       r.digest, r.made_at, r.signed_by
FROM bloodcell.result r
ORDER BY r.slide_id, r.number DESC;

COMMENT ON VIEW bloodcell.newest_version IS
    'The newest version of each slide''s result, also of a withdrawn slide; it waits for a person if an earlier one was '
    'signed. Always filter on slide_id.';
COMMENT ON COLUMN bloodcell.newest_version.result_id IS 'Key of the version.';
COMMENT ON COLUMN bloodcell.newest_version.number IS '1 for the slide''s first version, and so on.';
COMMENT ON COLUMN bloodcell.newest_version.state IS 'machine, withheld, final, amended or corrected.';
COMMENT ON COLUMN bloodcell.newest_version.report_id IS 'Key of the count.';

CREATE VIEW bloodcell.newest_count AS
SELECT r.slide_id, r.model_id, r.report_id, r.number
FROM bloodcell.slide_report r
WHERE NOT EXISTS (SELECT 1 FROM bloodcell.slide_report n
                  WHERE n.slide_id = r.slide_id AND n.model_id = r.model_id AND n.number > r.number);

COMMENT ON VIEW bloodcell.newest_count IS 'The newest count of each slide by each model.';
COMMENT ON COLUMN bloodcell.newest_count.report_id IS 'Key of the count.';
COMMENT ON COLUMN bloodcell.newest_count.number IS '1 for the first count of this slide and model, and so on.';

-- Labels are never changed, so their number tells whether a count lacks some. A count that lacks cells is not outdated: the
-- slide waits for the calls of these cells.
CREATE VIEW bloodcell.outdated_count AS
WITH of_other_facts AS MATERIALIZED (  -- so that only these slides' cells are counted
    SELECT n.slide_id, r.n_cells
    FROM bloodcell.newest_count n
    JOIN bloodcell.slide_report r USING (report_id)
    JOIN bloodcell.slide_facts s ON s.slide_id = n.slide_id
    WHERE r.rules_digest IS NOT NULL  -- before schema 0010 no facts were counted
      AND (r.age_months, r.sex, r.wbc_received, r.wbc_is_corrected)
          IS DISTINCT FROM (s.age_months, s.sex, s.wbc_10e9_per_l, s.wbc_is_corrected)
)
SELECT labelled.slide_id
FROM (
    SELECT c.slide_id, count(*) AS n_labels FROM bloodcell.label l JOIN bloodcell.cell c USING (cell_id) GROUP BY c.slide_id
) labelled
WHERE labelled.n_labels <> (SELECT max(r.n_labels) FROM bloodcell.slide_report r WHERE r.slide_id = labelled.slide_id)
UNION
SELECT o.slide_id FROM of_other_facts o
WHERE o.n_cells = (SELECT count(*) FROM bloodcell.cell c WHERE c.slide_id = o.slide_id)
UNION
SELECT h.slide_id FROM bloodcell.result h JOIN bloodcell.slide_report r USING (report_id)
WHERE h.signed_by IS NULL AND 'quality_control' = ANY (h.withheld_for)
  AND NOT EXISTS (SELECT FROM bloodcell.result n WHERE n.slide_id = h.slide_id AND n.number > h.number)
  AND NOT EXISTS (SELECT FROM bloodcell.quality_hold q
                  WHERE q.slide_id = h.slide_id AND (q.model_id IS NULL OR q.model_id = r.model_id))
UNION
SELECT q.slide_id FROM bloodcell.quality_hold q
WHERE EXISTS (
    SELECT FROM bloodcell.result n JOIN bloodcell.slide_report r USING (report_id)
    WHERE n.slide_id = q.slide_id AND n.signed_by IS NULL AND NOT 'quality_control' = ANY (n.withheld_for)
      AND (q.model_id IS NULL OR q.model_id = r.model_id)
      AND NOT EXISTS (SELECT FROM bloodcell.result l WHERE l.slide_id = n.slide_id AND l.number > n.number));

COMMENT ON VIEW bloodcell.outdated_count IS
    'Counted slides whose cells have other labels, or whose slide.json gives another age, sex or leucocyte count, than '
    'the newest count, and slides that the quality control has come to hold or to release.';

CREATE VIEW bloodcell.slide_last_reported_model AS
SELECT v.slide_id, r.model_id, r.n_cells, r.n_unclassified, r.is_sufficient, r.written_at, v.report_id
FROM bloodcell.result_in_force v JOIN bloodcell.slide_report r USING (report_id);

COMMENT ON VIEW bloodcell.slide_last_reported_model IS
    'The model whose calls are reported for a slide, or were reported until it was withdrawn. Always filter on slide_id.';
COMMENT ON COLUMN bloodcell.slide_last_reported_model.n_cells IS 'Cells that the result counts.';
COMMENT ON COLUMN bloodcell.slide_last_reported_model.n_unclassified IS 'Cells without a name, of n_cells.';
COMMENT ON COLUMN bloodcell.slide_last_reported_model.report_id IS 'Key of the count.';

CREATE VIEW bloodcell.slide_reported_model AS
SELECT m.slide_id, m.model_id, m.n_cells, m.n_unclassified, m.is_sufficient, m.written_at
FROM bloodcell.slide_last_reported_model m JOIN bloodcell.standing_slide USING (slide_id);

COMMENT ON VIEW bloodcell.slide_reported_model IS
    'The model whose calls are reported for a slide, for slides that are reported. Always filter on slide_id.';
COMMENT ON COLUMN bloodcell.slide_reported_model.n_cells IS 'Cells that the result counts.';
COMMENT ON COLUMN bloodcell.slide_reported_model.n_unclassified IS 'Cells without a name, of n_cells.';

-- Every version with what it counts, when it counted, and why it differs from the one before. A version that a run makes
-- after a signature never counts: it waits for a person.
CREATE VIEW bloodcell.result_version AS
SELECT s.barcode, s.night, s.patient_key, s.order_id, s.analyser, s.acquired_at, v.number AS version, v.state,
       v.made_at, v.signed_by, v.reason, v.causes,
       array_to_string(ARRAY(
           SELECT CASE cause
               WHEN 'first' THEN 'first count'
               WHEN 'cells' THEN format('%s more than in version %s',
                   CASE r.n_cells - p.n_cells WHEN 1 THEN '1 cell' ELSE r.n_cells - p.n_cells || ' cells' END, p.version)
               WHEN 'labels' THEN CASE r.n_labelled WHEN p.n_labelled THEN 'labels of people differ'
                   ELSE format('cells that labels of people decide: %s instead of %s', r.n_labelled, p.n_labelled) END
               WHEN 'calls' THEN 'the cells were classified again'
               WHEN 'model' THEN format('model %s instead of %s', left(r.model_id, 12), left(p.model_id, 12))
               WHEN 'facts' THEN 'slide.json or the order gives another age, sex or leucocyte count'
               WHEN 'rules' THEN format('rules "%s" instead of "%s"', rules.version, p.rules_version)
               WHEN 'night' THEN 'how the images of the slide look was judged again'
               WHEN 'quality' THEN 'the quality control of the night was judged again'
               WHEN 'patient' THEN 'another result of the patient was signed'
               WHEN 'signature' THEN format('version %s was signed by %s', p.version, v.signed_by)
               ELSE cause END
           FROM unnest(v.causes) WITH ORDINALITY AS c (cause, position) ORDER BY position), '; ') AS why,
       v.withheld_for, v.review_for, r.n_cells, r.n_leucocytes, r.n_other_leucocytes, r.n_unverified, r.n_blasts,
       r.n_unclassified, r.n_contested, r.n_labelled, r.is_sufficient, r.nrbc_per_100_wbc, r.nrbc_lower AS nrbc_lower_95,
       r.nrbc_upper AS nrbc_upper_95, r.n_compared, r.n_agree, r.age_months, r.sex, r.wbc_10e9_per_l, r.wbc_received,
       r.wbc_is_corrected, m.variant, r.model_id, rules.version AS rules_version, r.rules_digest, r.calls_digest,
       r.labels_digest, v.digest, in_force.from_ AS in_force_from, in_force.until AS in_force_until,
       in_force.from_ IS NOT NULL AND in_force.until IS NULL AND s.withdrawn_at IS NULL AS is_in_force,
       v.run_id, r.run_id AS counted_by_run_id, r.written_at AS counted_at, v.recorded_by, s.withdrawn_at, v.slide_id,
       v.report_id
FROM bloodcell.result v
JOIN bloodcell.slide s USING (slide_id)
JOIN bloodcell.slide_report r USING (report_id)
JOIN bloodcell.model m USING (model_id)
LEFT JOIN bloodcell.laboratory_rules rules USING (rules_digest)
CROSS JOIN LATERAL (
    SELECT CASE WHEN v.signed_by IS NULL AND EXISTS (
                    SELECT 1 FROM bloodcell.result e
                    WHERE e.slide_id = v.slide_id AND e.number < v.number AND e.signed_by IS NOT NULL)
                THEN NULL ELSE v.made_at END AS from_,
           (SELECT min(n.made_at) FROM bloodcell.result n
            WHERE n.slide_id = v.slide_id AND n.number > v.number AND (n.signed_by IS NOT NULL OR v.signed_by IS NULL)) AS until
) in_force
LEFT JOIN LATERAL (
    SELECT o.number AS version, b.n_cells, b.n_labelled, b.model_id, l.version AS rules_version
    FROM bloodcell.result o JOIN bloodcell.slide_report b USING (report_id)
    LEFT JOIN bloodcell.laboratory_rules l USING (rules_digest)
    WHERE o.slide_id = v.slide_id AND o.number = v.number - 1
) p ON true;

COMMENT ON VIEW bloodcell.result_version IS
    'Every version of every slide''s result: state, counts, and why it differs from the version before. For the result as '
    'of a moment: in_force_from <= moment AND (in_force_until > moment OR in_force_until IS NULL), unless the slide was '
    'withdrawn then (39_result_as_of.sql).';
COMMENT ON COLUMN bloodcell.result_version.version IS '1 for the slide''s first version, and so on.';
COMMENT ON COLUMN bloodcell.result_version.state IS
    'machine (nobody has looked), withheld (the percentages are not to be used before a person has looked), final (signed), '
    'amended or corrected (signed again).';
COMMENT ON COLUMN bloodcell.result_version.made_at IS 'When the version was made.';
COMMENT ON COLUMN bloodcell.result_version.signed_by IS 'Login of the person who signed it; empty if a run made it.';
COMMENT ON COLUMN bloodcell.result_version.reason IS 'Why it was signed again, in that person''s words.';
COMMENT ON COLUMN bloodcell.result_version.causes IS
    'What differs from the version before: first, cells, labels, calls, model, facts, rules, night, quality, patient or signature.';
COMMENT ON COLUMN bloodcell.result_version.why IS 'The same as a sentence.';
COMMENT ON COLUMN bloodcell.result_version.withheld_for IS 'Why the percentages are, or were until it was signed, withheld.';
COMMENT ON COLUMN bloodcell.result_version.review_for IS 'Review rules that name the slide.';
COMMENT ON COLUMN bloodcell.result_version.n_cells IS 'Cells of the slide when they were counted.';
COMMENT ON COLUMN bloodcell.result_version.n_other_leucocytes IS 'Of n_leucocytes, those of a code out of scope.';
COMMENT ON COLUMN bloodcell.result_version.n_unverified IS 'Of n_other_leucocytes, those that only the analyser''s code names.';
COMMENT ON COLUMN bloodcell.result_version.n_blasts IS
    'Cells that are a blast by a person''s label or, without one, by the analyser''s code; also contested cells of which one '
    'person says so.';
COMMENT ON COLUMN bloodcell.result_version.n_contested IS 'Of n_unclassified, those on which people disagree.';
COMMENT ON COLUMN bloodcell.result_version.n_labelled IS 'Of n_cells, those that a person''s label decides.';
COMMENT ON COLUMN bloodcell.result_version.nrbc_per_100_wbc IS 'Erythroblasts per 100 leucocytes; empty without leucocytes.';
COMMENT ON COLUMN bloodcell.result_version.nrbc_lower_95 IS 'Lower end of its exact 95 % interval.';
COMMENT ON COLUMN bloodcell.result_version.nrbc_upper_95 IS 'Upper end of its exact 95 % interval.';
COMMENT ON COLUMN bloodcell.result_version.n_compared IS 'Cells with a call and with an analyser code in scope.';
COMMENT ON COLUMN bloodcell.result_version.n_agree IS 'Of n_compared, those that the model called as the analyser did.';
COMMENT ON COLUMN bloodcell.result_version.wbc_10e9_per_l IS
    'Leucocyte count of the absolute counts; less than wbc_received if bloodcell corrected it.';
COMMENT ON COLUMN bloodcell.result_version.calls_digest IS
    'sha256 over a line for each cell: image, call and analyser code; empty before schema 0010.';
COMMENT ON COLUMN bloodcell.result_version.labels_digest IS
    'sha256 over a line for each labelled cell: image and label; empty before schema 0010.';
COMMENT ON COLUMN bloodcell.result_version.digest IS
    'sha256 over the model, the digests of calls, labels and rules, and the facts of slide.json; what a person signs.';
COMMENT ON COLUMN bloodcell.result_version.in_force_from IS
    'From when the version counted; empty for a version that waits for a person because an earlier one was signed.';
COMMENT ON COLUMN bloodcell.result_version.in_force_until IS 'When another version took its place; empty until then.';
COMMENT ON COLUMN bloodcell.result_version.is_in_force IS 'Whether this version counts now.';
COMMENT ON COLUMN bloodcell.result_version.run_id IS 'Run that made the version; empty if a person signed it.';
COMMENT ON COLUMN bloodcell.result_version.counted_by_run_id IS 'Run that counted the cells; see run_history.';
COMMENT ON COLUMN bloodcell.result_version.counted_at IS 'When the cells were counted.';
COMMENT ON COLUMN bloodcell.result_version.recorded_by IS 'Login that wrote the version.';
COMMENT ON COLUMN bloodcell.result_version.report_id IS 'Key of the count, as in result_line.';

CREATE VIEW bloodcell.count_history AS
SELECT report_id, slide_id, model_id, number, n_cells, n_leucocytes, n_other_leucocytes, n_unverified, n_blasts,
       n_unclassified, n_contested, n_labelled, is_sufficient, nrbc_per_100_wbc, nrbc_lower AS nrbc_lower_95,
       nrbc_upper AS nrbc_upper_95, n_compared, n_agree, age_months, sex, wbc_received, wbc_is_corrected, wbc_10e9_per_l,
       rules_digest, calls_digest, labels_digest, run_id, written_at
FROM bloodcell.slide_report;

COMMENT ON VIEW bloodcell.count_history IS
    'Every count of every slide by every model, also of challengers and former ones; count_line has the lines.';
COMMENT ON COLUMN bloodcell.count_history.report_id IS 'Key of the count.';
COMMENT ON COLUMN bloodcell.count_history.number IS '1 for the first count of this slide and model, and so on.';
COMMENT ON COLUMN bloodcell.count_history.n_cells IS 'Cells of the slide when they were counted.';
COMMENT ON COLUMN bloodcell.count_history.n_other_leucocytes IS 'Of n_leucocytes, those of a code out of scope.';
COMMENT ON COLUMN bloodcell.count_history.n_unverified IS
    'Of n_other_leucocytes, those that only the analyser''s code names.';
COMMENT ON COLUMN bloodcell.count_history.n_blasts IS
    'Cells that are a blast by a person''s label or, without one, by the analyser''s code; also contested cells of which one '
    'person says so.';
COMMENT ON COLUMN bloodcell.count_history.n_contested IS 'Of n_unclassified, those on which people disagree.';
COMMENT ON COLUMN bloodcell.count_history.n_labelled IS 'Of n_cells, those that a person''s label decides.';
COMMENT ON COLUMN bloodcell.count_history.nrbc_per_100_wbc IS 'Erythroblasts per 100 leucocytes; empty without leucocytes.';
COMMENT ON COLUMN bloodcell.count_history.nrbc_lower_95 IS 'Lower end of its exact 95 % interval.';
COMMENT ON COLUMN bloodcell.count_history.nrbc_upper_95 IS 'Upper end of its exact 95 % interval.';
COMMENT ON COLUMN bloodcell.count_history.n_compared IS 'Cells with a call and with an analyser code in scope.';
COMMENT ON COLUMN bloodcell.count_history.n_agree IS 'Of n_compared, those that the model called as the analyser did.';
COMMENT ON COLUMN bloodcell.count_history.wbc_10e9_per_l IS
    'Leucocyte count of the absolute counts; less than wbc_received if bloodcell corrected it.';
COMMENT ON COLUMN bloodcell.count_history.calls_digest IS
    'sha256 over a line for each cell: image, call and analyser code; empty before schema 0010.';
COMMENT ON COLUMN bloodcell.count_history.labels_digest IS
    'sha256 over a line for each labelled cell: image and label; empty before schema 0010.';

CREATE VIEW bloodcell.count_line AS
SELECT report_id, class, n_cells, n_labelled, n_unverified, percentage, lower AS percentage_lower_95,
       upper AS percentage_upper_95, bound_lower, bound_upper, absolute AS absolute_10e9_per_l,
       absolute_lower AS absolute_lower_95, absolute_upper AS absolute_upper_95, flag
FROM bloodcell.differential;

COMMENT ON VIEW bloodcell.count_line IS 'The lines of every count of count_history.';
COMMENT ON COLUMN bloodcell.count_line.report_id IS 'Key of the count.';
COMMENT ON COLUMN bloodcell.count_line.class IS 'One of the eight cell classes, unclassified, contested, or a code out of scope.';
COMMENT ON COLUMN bloodcell.count_line.n_cells IS 'Cells that count as this.';
COMMENT ON COLUMN bloodcell.count_line.n_labelled IS 'Of n_cells, those that a person''s label decides.';
COMMENT ON COLUMN bloodcell.count_line.n_unverified IS 'Of n_cells, those that only the analyser''s code names.';
COMMENT ON COLUMN bloodcell.count_line.percentage IS 'Share of the leucocytes in percent; empty for what is no leucocyte.';
COMMENT ON COLUMN bloodcell.count_line.percentage_lower_95 IS 'Lower end of its exact 95 % interval (Clopper-Pearson).';
COMMENT ON COLUMN bloodcell.count_line.percentage_upper_95 IS 'Upper end of its exact 95 % interval.';
COMMENT ON COLUMN bloodcell.count_line.bound_lower IS
    'The percentage if no unclassified cell were of this class but a leucocyte.';
COMMENT ON COLUMN bloodcell.count_line.bound_upper IS 'The percentage if every unclassified cell were of this class.';
COMMENT ON COLUMN bloodcell.count_line.absolute_10e9_per_l IS 'Cells in 10^9 per litre; empty without a leucocyte count.';
COMMENT ON COLUMN bloodcell.count_line.absolute_lower_95 IS 'Absolute count at the lower end of the interval.';
COMMENT ON COLUMN bloodcell.count_line.absolute_upper_95 IS 'Absolute count at the upper end of the interval.';
COMMENT ON COLUMN bloodcell.count_line.flag IS
    'low, possibly_low, possibly_high or high relative to the reference range; possibly: the interval overlaps it.';

CREATE VIEW bloodcell.rules_history AS
SELECT rules_digest, version AS rules_version, document, first_used_at FROM bloodcell.laboratory_rules;

COMMENT ON VIEW bloodcell.rules_history IS 'Every version of the laboratory''s rules that a result was made with.';
COMMENT ON COLUMN bloodcell.rules_history.rules_digest IS 'Digest of the document.';
COMMENT ON COLUMN bloodcell.rules_history.document IS 'Everything that the rules file said.';
COMMENT ON COLUMN bloodcell.rules_history.first_used_at IS 'When a result was first made with it.';

CREATE VIEW bloodcell.result_line AS
SELECT s.barcode, s.night, v.number AS version, v.state, d.class, coalesce(c.name, d.class) AS name, d.n_cells, d.n_labelled,
       d.n_unverified, d.percentage, d.percentage_lower_95, d.percentage_upper_95, d.bound_lower, d.bound_upper,
       d.absolute_10e9_per_l, d.absolute_lower_95, d.absolute_upper_95, d.flag, v.made_at, s.withdrawn_at, v.slide_id,
       v.report_id
FROM bloodcell.result v
JOIN bloodcell.slide s USING (slide_id)
JOIN bloodcell.count_line d USING (report_id)
LEFT JOIN bloodcell.cell_code c ON c.code = d.class;

COMMENT ON VIEW bloodcell.result_line IS 'Every version of every slide''s result, one row for each line of its differential.';
COMMENT ON COLUMN bloodcell.result_line.version IS '1 for the slide''s first version, and so on.';
COMMENT ON COLUMN bloodcell.result_line.state IS 'machine, withheld, final, amended or corrected.';
COMMENT ON COLUMN bloodcell.result_line.class IS
    'One of the eight cell classes, unclassified, contested, or a code out of scope.';
COMMENT ON COLUMN bloodcell.result_line.name IS 'What the code means; for the others the class.';
COMMENT ON COLUMN bloodcell.result_line.n_cells IS 'Cells that count as this.';
COMMENT ON COLUMN bloodcell.result_line.n_labelled IS 'Of n_cells, those that a person''s label decides.';
COMMENT ON COLUMN bloodcell.result_line.n_unverified IS 'Of n_cells, those that only the analyser''s code names.';
COMMENT ON COLUMN bloodcell.result_line.percentage IS 'Share of the leucocytes in percent; empty for what is no leucocyte.';
COMMENT ON COLUMN bloodcell.result_line.percentage_lower_95 IS 'Lower end of its exact 95 % interval (Clopper-Pearson).';
COMMENT ON COLUMN bloodcell.result_line.percentage_upper_95 IS 'Upper end of its exact 95 % interval.';
COMMENT ON COLUMN bloodcell.result_line.bound_lower IS
    'The percentage if no unclassified cell were of this class but a leucocyte.';
COMMENT ON COLUMN bloodcell.result_line.bound_upper IS 'The percentage if every unclassified cell were of this class.';
COMMENT ON COLUMN bloodcell.result_line.absolute_10e9_per_l IS 'Cells in 10^9 per litre; empty without a leucocyte count.';
COMMENT ON COLUMN bloodcell.result_line.absolute_lower_95 IS 'Absolute count at the lower end of the interval.';
COMMENT ON COLUMN bloodcell.result_line.absolute_upper_95 IS 'Absolute count at the upper end of the interval.';
COMMENT ON COLUMN bloodcell.result_line.flag IS
    'low, possibly_low, possibly_high or high relative to the reference range; possibly: the interval overlaps it.';
COMMENT ON COLUMN bloodcell.result_line.report_id IS 'Key of the count, as in result_version.';
