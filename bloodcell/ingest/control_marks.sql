-- name: rounds
-- Until when each round can be read, as recorded last.
SELECT DISTINCT ON (name) name, due FROM bloodcell.eqa_round ORDER BY name, round_id DESC

-- name: unmarked
SELECT s.slide_id, s.barcode
FROM bloodcell.standing_slide s
WHERE (s.night = :night OR EXISTS (SELECT FROM bloodcell.cell n WHERE n.slide_id = s.slide_id AND n.night = :night))
  AND NOT EXISTS (SELECT FROM bloodcell.control_slide c WHERE c.slide_id = s.slide_id)
ORDER BY s.slide_id
