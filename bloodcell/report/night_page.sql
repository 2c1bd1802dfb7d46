-- name: newest_results
-- When the newest version of a result on each night's page was made: a slide is on the page of every night that brought
-- cells of it.
SELECT n.night, max(v.made_at) AS made_at
FROM bloodcell.result v JOIN (SELECT DISTINCT slide_id, night FROM bloodcell.cell) n USING (slide_id) GROUP BY n.night

-- name: nights_of_slide
SELECT DISTINCT c.night FROM bloodcell.cell c JOIN bloodcell.standing_slide s USING (slide_id) WHERE s.barcode = :barcode
