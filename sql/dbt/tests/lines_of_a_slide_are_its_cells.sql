-- Slides whose lines do not add up to the slide's cells.
SELECT barcode, s.n_cells, sum(l.n_cells) AS n_cells_of_lines
FROM {{ source('bloodcell', 'mart_slide') }} s
LEFT JOIN {{ source('bloodcell', 'mart_slide_class') }} l USING (barcode)
GROUP BY barcode, s.n_cells
HAVING sum(l.n_cells) IS DISTINCT FROM s.n_cells
