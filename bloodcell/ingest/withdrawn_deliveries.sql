-- name: withdrawn
-- Slides that were delivered under this barcode and withdrawn, unless their cells are on the slide that now has it: a slide
-- that was renamed and renamed back is no obstacle.
WITH RECURSIVE moved (slide_id, now_on) AS (
    SELECT slide_id, slide_id FROM bloodcell.slide
    WHERE barcode = :barcode AND withdrawn_at IS NOT NULL AND delivered_as IS NULL
    UNION ALL
    SELECT m.slide_id, w.renamed_to FROM moved m JOIN bloodcell.slide_withdrawal w ON w.slide_id = m.now_on
    WHERE w.action = 'rename'
)
SELECT s.night, s.acquired_at
FROM bloodcell.slide s
WHERE s.slide_id IN (SELECT slide_id FROM moved) AND NOT EXISTS (
    SELECT 1 FROM moved m JOIN bloodcell.standing_slide t ON t.slide_id = m.now_on
    WHERE m.slide_id = s.slide_id AND t.barcode = :barcode)
ORDER BY s.withdrawn_at DESC

-- name: their_images
-- Images that were delivered under this barcode and are now on a withdrawn slide or on one with another barcode: of each file
-- its digest as it was received, the digest of what is stored, and the name of the cell.
SELECT DISTINCT f.sha256 AS received_sha256, c.sha256, c.file_name
FROM bloodcell.drop_file f JOIN bloodcell.cell c USING (cell_id) JOIN bloodcell.slide s USING (slide_id)
WHERE f.barcode = :barcode AND f.outcome IN ('cell', 'duplicate') AND (s.barcode <> :barcode OR s.withdrawn_at IS NOT NULL)
