-- The same image on more than one slide: delivered twice, or slides mixed up.
--
-- Who asks: the laboratory's safety officer. Two patients with the same image mean a mix-up: look at it at once.
-- Set: since (first night, default 30 days ago)
-- Read: rows with n_patients above 1 come first. barcodes: the slides that have the image; it counts on each of them.
\if :{?since}
\else
SELECT current_date - 30 AS since \gset
\endif

SELECT n_patients, n_slides, barcodes, count(DISTINCT sha256) AS n_images, max(night) AS last_night,
       min(sha256) AS example
FROM bloodcell.shared_image
WHERE night >= :'since'::date
GROUP BY n_patients, n_slides, barcodes
ORDER BY n_patients DESC, n_images DESC, barcodes;
