-- Slides whose shares of the leucocytes do not add up to 100 %, in the wide or in the long mart. A line without a share has no
-- leucocytes, and neither has a slide without any.
WITH wide AS (
    SELECT barcode, neutrophil_percent + eosinophil_percent + basophil_percent + lymphocyte_percent + monocyte_percent
        + ig_percent + other_percent AS percent
    FROM {{ source('bloodcell', 'mart_slide') }}
    WHERE n_leucocytes > 0 AND state <> 'withheld'
), long AS (
    SELECT barcode, sum(percentage) AS percent
    FROM {{ source('bloodcell', 'mart_slide_class') }}
    WHERE state <> 'withheld'
    GROUP BY barcode HAVING count(percentage) > 0 AND sum(n_cells) FILTER (WHERE percentage IS NOT NULL) > 0
)
SELECT barcode, wide.percent AS wide_percent, long.percent AS long_percent
FROM wide FULL JOIN long USING (barcode)
WHERE (abs(wide.percent - 100) < 1e-6 AND abs(long.percent - 100) < 1e-6) IS NOT TRUE
