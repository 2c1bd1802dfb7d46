-- name: known_cells
-- The cells of a slide that some files may repeat, each with its ledger row's path: by name, by image, or by bare name
-- (bloodcell.cells.names.bare_name).
SELECT c.file_name, c.cell_id, c.night, c.sha256, coalesce(c.received_sha256, c.sha256), f.path
FROM bloodcell.cell c
LEFT JOIN bloodcell.drop_file f ON f.cell_id = c.cell_id AND f.night = c.night AND f.outcome = 'cell'
WHERE c.slide_id = :slide_id AND (
    c.file_name = ANY (CAST(:names AS text[])) OR c.sha256 = ANY (CAST(:images AS text[]))
    OR regexp_replace(lower(regexp_replace(c.file_name, '\.[^./]*$', '')), '(?<![0-9])0+(?=[0-9])', '', 'g')
       = ANY (CAST(:bare_names AS text[])))
ORDER BY c.cell_id
