WITH slides AS (
    SELECT barcode, CAST(date_trunc('month', night) AS date) AS month, analyser, n_leucocytes
    FROM {{ source('bloodcell', 'mart_slide') }}
    WHERE state <> 'withheld'
), months AS (
    SELECT month, analyser, count(*) AS n_slides, sum(n_leucocytes) AS n_leucocytes
    FROM slides GROUP BY month, analyser
), lines AS (
    SELECT s.month, s.analyser, l.class, max(l.name) AS name, sum(l.n_cells) AS n_cells
    FROM slides s JOIN {{ source('bloodcell', 'mart_slide_class') }} l USING (barcode)
    WHERE l.percentage IS NOT NULL
    GROUP BY s.month, s.analyser, l.class
)
SELECT m.month, m.analyser, l.class, l.name, m.n_slides, CAST(l.n_cells AS bigint) AS n_cells,
       CAST(m.n_leucocytes AS bigint) AS n_leucocytes, 100.0 * l.n_cells / nullif(m.n_leucocytes, 0) AS share_percent
FROM months m JOIN lines l ON l.month = m.month AND l.analyser IS NOT DISTINCT FROM m.analyser
