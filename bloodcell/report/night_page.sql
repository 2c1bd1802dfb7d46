-- name: newest_results
-- When the newest version of a result of each night was made.
SELECT s.night, max(v.made_at) AS made_at FROM bloodcell.result v JOIN bloodcell.slide s USING (slide_id) GROUP BY s.night
