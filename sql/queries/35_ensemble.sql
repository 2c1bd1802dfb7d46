-- Cells of a night that all models together call differently from the champion, the most probable first.
--
-- Who asks: the reviewer who wants a second opinion; the person who decides about the next champion.
-- Set: night (default: the newest), most (rows at most, default 100)
-- Read: ensemble_class has the highest mean probability over the reported model and the newest of each other variant that
--   called the cell (n_models); n_votes of them call it ensemble_class themselves. reported_class is the champion's call,
--   reported_top_class its most probable class, also of an unclassified cell. On held-out images the mean of the four
--   shipped models was right for 98.9 % and their champion for 98.7 % (benchmarks/accuracy/RESULTS.md): too small a gain
--   to report it instead. n_in_all: such cells of the night, also those beyond the last row.
\if :{?night}
\else
SELECT coalesce(max(night) FILTER (WHERE night <= current_date + 1), current_date) AS night
FROM bloodcell.night_summary \gset
\endif
\if :{?most}
\else
\set most 100
\endif

SELECT e.barcode, e.file_name, e.ensemble_class, round(e.ensemble_probability::numeric, 3) AS ensemble_probability,
       e.n_votes, e.n_models, e.reported_class, e.reported_top_class, round(e.confidence::numeric, 3) AS confidence,
       count(*) OVER () AS n_in_all
FROM (
    SELECT c.barcode, c.file_name, best.class AS ensemble_class, best.probability AS ensemble_probability, c.n_models,
           (SELECT count(*) FROM unnest(c.top_classes) top WHERE top = best.class) AS n_votes,
           c.reported_class, c.reported_top_class, c.confidence
    FROM (
        SELECT barcode, file_name, cell_id, count(*) AS n_models, array_agg(top_class) AS top_classes,
               max(called_class) FILTER (WHERE is_reported) AS reported_class,
               max(top_class) FILTER (WHERE is_reported) AS reported_top_class,
               max(confidence) FILTER (WHERE is_reported) AS confidence,
               avg(p_basophil) AS basophil, avg(p_eosinophil) AS eosinophil, avg(p_erythroblast) AS erythroblast,
               avg(p_ig) AS ig, avg(p_lymphocyte) AS lymphocyte, avg(p_monocyte) AS monocyte,
               avg(p_neutrophil) AS neutrophil, avg(p_platelet) AS platelet
        FROM (
            SELECT DISTINCT ON (cell_id, variant) * FROM bloodcell.cell_result WHERE night = :'night'::date
            ORDER BY cell_id, variant, is_reported DESC, called_at DESC
        ) newest
        GROUP BY barcode, file_name, cell_id
    ) c
    CROSS JOIN LATERAL (
        SELECT * FROM (VALUES ('basophil', basophil), ('eosinophil', eosinophil), ('erythroblast', erythroblast),
                              ('ig', ig), ('lymphocyte', lymphocyte), ('monocyte', monocyte),
                              ('neutrophil', neutrophil), ('platelet', platelet)) p (class, probability)
        ORDER BY probability DESC, class = c.reported_top_class DESC, class LIMIT 1
    ) best
    WHERE c.n_models > 1
) e
WHERE e.ensemble_class <> e.reported_top_class
ORDER BY e.ensemble_probability DESC, e.barcode, e.file_name
LIMIT :most;
