WITH slides AS (
    SELECT v.slide_id, v.night, v.acquired_at, min(v.made_at) AS counted_at,
           min(v.made_at) FILTER (WHERE v.signed_by IS NOT NULL) AS signed_at
    FROM {{ source('bloodcell', 'mart_slide_version') }} v
    WHERE v.withdrawn_at IS NULL
    GROUP BY v.slide_id, v.night, v.acquired_at
)
SELECT night, count(*) AS n_slides, count(signed_at) AS n_signed,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM counted_at - acquired_at) / 3600) AS counted_after_h,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM signed_at - acquired_at) / 3600) AS signed_after_h,
       percentile_cont(0.9) WITHIN GROUP (ORDER BY extract(epoch FROM signed_at - acquired_at) / 3600)
           AS signed_after_h_90th
FROM slides
GROUP BY night
