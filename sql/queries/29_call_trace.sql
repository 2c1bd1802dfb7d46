-- One reported call traced to its origin: file, run, bundle, data set, and the people who labelled, approved and signed.
--
-- Who asks: the auditor; the court.
-- Set: barcode and file (name of the cell's file, default: the first of the slide; barcode's default: the slide reported
--   last)
-- Read: one block. It goes from the file and the run that ingested it through the run that called it to the model, the
--   images and labels it was trained on (empty: a folder of images, which its bundle lists), and who promoted it by the
--   time the slide was reported: promoted_by, reason and, for a retraining, approver, gates and report. label: the labels
--   that people gave this cell. counts_as: what it counts as now; a label decides before an analyser code out of scope, and
--   that before the call. version, result_state and signed_by: the slide's result that counts; digest covers what it was made
--   from.
\if :{?barcode}
\else
SELECT coalesce((SELECT barcode FROM bloodcell.slide_summary WHERE withdrawn_at IS NULL
                 ORDER BY written_at DESC LIMIT 1), '') AS barcode \gset
\endif
\if :{?file}
\else
SELECT coalesce((SELECT file_name FROM bloodcell.cell_result WHERE barcode = :'barcode' ORDER BY cell_id LIMIT 1), '')
    AS file \gset
\endif

SELECT p.barcode, p.night, p.file_name, p.folder, p.path, p.sha256, p.ingested_at, p.ingest_code_version, p.called_class,
       p.confidence, p.called_at, p.classify_run_id, p.classify_code_version, p.classify_host, p.classify_airflow_run,
       p.model_id, p.variant, p.model_code_version, p.model_created_at, p.dataset_digest, s.created_at AS dataset_taken_at,
       labels.n_training_images, labels.n_patients, labels.labelled_by, h.promotion_id, h.action, h.promoted_at,
       h.promoted_by, h.reason, h.training_run_id, h.approved_by, h.approved_at, h.gates, h.report,
       l.class AS label, l.sub_label, l.state AS label_state, l.labelled_by AS label_by,
       coalesce(d.line, p.called_class) AS counts_as, v.version, v.state AS result_state, v.made_at, v.signed_by, v.digest
FROM bloodcell.cell_provenance p
LEFT JOIN bloodcell.slide_summary r ON r.barcode = p.barcode AND r.model_id = p.model_id AND r.withdrawn_at IS NULL
LEFT JOIN LATERAL (
    SELECT * FROM bloodcell.model_history h WHERE h.model_id = p.model_id AND h.promoted_at <= r.written_at
    ORDER BY h.promotion_id DESC LIMIT 1
) h ON true
LEFT JOIN bloodcell.training_set s ON s.dataset_digest = p.dataset_digest
LEFT JOIN LATERAL (
    SELECT count(*) AS n_training_images, count(DISTINCT i.split_key) AS n_patients,
           string_agg(DISTINCT i.labelled_by, ', ') AS labelled_by
    FROM bloodcell.training_image i
    WHERE i.dataset_digest = p.dataset_digest AND i.split IN ('training', 'validation')
) labels ON s.dataset_digest IS NOT NULL
LEFT JOIN bloodcell.current_label l ON l.cell_id = p.cell_id
LEFT JOIN LATERAL (SELECT c.line FROM bloodcell.decided_cell c WHERE c.cell_id = p.cell_id LIMIT 1) d ON true
LEFT JOIN bloodcell.result_version v ON v.barcode = p.barcode AND v.is_in_force
WHERE p.barcode = :'barcode' AND p.file_name = :'file' AND p.is_reported
\gx
