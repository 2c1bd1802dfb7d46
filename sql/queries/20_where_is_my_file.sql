-- What became of the files of a slide, or of one of them, now and before.
--
-- Who asks: the technician who cannot find a cell in the report.
-- Set: barcode (default: the slide reported last), file (part of the name, default: all)
-- Read: every file of the slide's folder. outcome cell: it counts as counts_as, which is what a person's label says, without
--   one the analyser's code if that is out of scope, else called_class. duplicate: the slide already had the same image.
--   quarantined: it cannot be used, see reason and detail. ignored: left out by rule. A row with replaced_at shows an
--   earlier outcome, before the file was examined again. No rows: the night has not been read yet, or the file was never
--   there.
\if :{?barcode}
\else
SELECT coalesce((SELECT barcode FROM bloodcell.slide_summary WHERE withdrawn_at IS NULL
                 ORDER BY written_at DESC LIMIT 1), '') AS barcode \gset
\endif
\if :{?file}
\else
\set file ''
\endif

SELECT a.night, a.path, a.outcome, a.reason, a.detail, r.called_class, coalesce(d.line, r.called_class) AS counts_as,
       a.updated_at AS judged_at, NULL::timestamptz AS replaced_at
FROM bloodcell.file_account a
LEFT JOIN bloodcell.cell_result r ON r.cell_id = a.cell_id AND r.barcode = a.barcode AND r.is_reported
LEFT JOIN LATERAL (SELECT c.line FROM bloodcell.decided_cell c WHERE c.cell_id = r.cell_id LIMIT 1) d ON true
WHERE a.barcode = :'barcode' AND strpos(a.path, :'file') > 0
UNION ALL
SELECT h.night, h.path, h.outcome, h.reason, h.detail, NULL, NULL, NULL, h.replaced_at
FROM bloodcell.file_account a JOIN bloodcell.file_history h USING (night, path)
WHERE a.barcode = :'barcode' AND strpos(a.path, :'file') > 0
ORDER BY night, path, replaced_at NULLS LAST;
