-- Everything that is known about how one cell was called.
--
-- Who asks: the auditor; the pathologist who doubts a call.
-- Set: barcode and file (name of the cell's file, default: the first of the slide; barcode's default: the slide reported
--   last)
-- Read: one block per model. It goes from the file (folder, path, digest, size) through the run that ingested it to the
--   model (id, data, thresholds) and the run that called it, each with code version and machine. A block without a model
--   means that the cell has not been called.
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

SELECT * FROM bloodcell.cell_provenance
WHERE barcode = :'barcode' AND file_name = :'file'
ORDER BY is_reported DESC, variant
\gx
