-- name: agreement
SELECT l.class, count(*) AS n, count(*) FILTER (WHERE r.called_class = l.class) AS n_confirmed,
       count(*) FILTER (WHERE r.called_class = 'unclassified') AS n_unclassified
FROM bloodcell.current_label l JOIN bloodcell.cell_result r ON r.cell_id = l.cell_id AND r.night = l.night
WHERE r.is_reported AND l.night = :night
GROUP BY l.class
