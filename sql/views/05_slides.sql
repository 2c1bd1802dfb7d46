-- Whatever is reported, exported, labelled or trained on belongs to a slide that stands. The rule is defined only here.
CREATE VIEW bloodcell.standing_slide AS
SELECT slide_id, barcode, night, order_id, analyser, patient_key, acquired_at, record_state, delivered_as, run_id
FROM bloodcell.slide WHERE withdrawn_at IS NULL;

COMMENT ON VIEW bloodcell.standing_slide IS 'The slides that have not been withdrawn; a barcode names at most one of them.';
COMMENT ON COLUMN bloodcell.standing_slide.record_state IS 'What became of slide.json: read, absent or unreadable.';
COMMENT ON COLUMN bloodcell.standing_slide.run_id IS 'Run that first read the slide, or that renamed it; see run_history.';

CREATE VIEW bloodcell.withdrawn_slide AS
SELECT s.slide_id, s.barcode, s.night, s.order_id, s.patient_key, s.analyser, s.acquired_at, s.delivered_as, s.withdrawn_at,
       w.reason, w.requested_by, w.recorded_by, t.barcode AS renamed_to, r.recorded_at AS renamed_at
FROM bloodcell.slide_withdrawal w
JOIN bloodcell.slide s USING (slide_id)
LEFT JOIN (bloodcell.slide_withdrawal r JOIN bloodcell.slide t ON t.slide_id = r.renamed_to)
       ON r.slide_id = w.slide_id AND r.action = 'rename'
WHERE w.action = 'withdraw' AND s.withdrawn_at = w.recorded_at;

COMMENT ON VIEW bloodcell.withdrawn_slide IS
    'Slides that were withdrawn, for example because they were delivered under a wrong barcode. Nothing is reported for '
    'them. What was reported until then remains in slide_summary and slide_differential.';
COMMENT ON COLUMN bloodcell.withdrawn_slide.barcode IS 'Barcode that the slide had. Another slide may have it now.';
COMMENT ON COLUMN bloodcell.withdrawn_slide.reason IS 'Why it was withdrawn.';
COMMENT ON COLUMN bloodcell.withdrawn_slide.requested_by IS 'Person who asked for it, as the command says.';
COMMENT ON COLUMN bloodcell.withdrawn_slide.recorded_by IS 'Login that withdrew it.';
COMMENT ON COLUMN bloodcell.withdrawn_slide.renamed_to IS 'Barcode of the slide to which its cells were moved; else empty.';
COMMENT ON COLUMN bloodcell.withdrawn_slide.renamed_at IS 'When its cells were moved.';

CREATE VIEW bloodcell.withdrawal_history AS
SELECT w.withdrawal_id, s.barcode, s.night, w.action, t.barcode AS renamed_to, w.reason, w.requested_by, w.recorded_by,
       w.recorded_at, w.slide_id, w.run_id
FROM bloodcell.slide_withdrawal w
JOIN bloodcell.slide s USING (slide_id)
LEFT JOIN bloodcell.slide t ON t.slide_id = w.renamed_to;

COMMENT ON VIEW bloodcell.withdrawal_history IS
    'Every withdrawal, renaming and restoration of a slide: when, why, for whom and by which login.';
COMMENT ON COLUMN bloodcell.withdrawal_history.withdrawal_id IS 'Key of the row; a higher one came later.';
COMMENT ON COLUMN bloodcell.withdrawal_history.action IS
    'withdraw; rename (the cells were moved to renamed_to); restore (the withdrawal was an error).';
COMMENT ON COLUMN bloodcell.withdrawal_history.renamed_to IS 'Barcode of the slide to which the cells were moved.';
COMMENT ON COLUMN bloodcell.withdrawal_history.requested_by IS 'Person who asked for it, as the command says.';
COMMENT ON COLUMN bloodcell.withdrawal_history.recorded_by IS 'Login that wrote the row.';
COMMENT ON COLUMN bloodcell.withdrawal_history.recorded_at IS 'When it was done.';
