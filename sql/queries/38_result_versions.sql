-- All versions of one slide's result, and why each differs from the one before.
--
-- Who asks: the person who signs; the clinician who has an older print; the auditor.
-- Set: barcode (default: the slide reported last), for example -v barcode=2611210042
-- Read: state machine: nobody had looked; withheld: the percentages were not to be used, withheld_for says why; final, amended,
--   corrected: signed_by has signed, with the reason for signing again. why: what differs from the version before. A version
--   counted from in_force_from until in_force_until; counts_now t: it still does. in_force_from empty: it never counted, because
--   an earlier version was signed; it waits, or waited, for a signature. digest: the first characters of the sha256 over
--   everything that it was made from. withdrawn_at: the slide was withdrawn then, and nothing counts since; another slide may
--   have its barcode now. 39_result_as_of.sql shows the lines of a version.
\if :{?barcode}
\else
SELECT coalesce((SELECT barcode FROM bloodcell.slide_summary WHERE withdrawn_at IS NULL
                 ORDER BY written_at DESC LIMIT 1), '') AS barcode \gset
\endif

SELECT barcode, version, state, made_at, signed_by, reason, why, array_to_string(withheld_for, ', ') AS withheld_for,
       array_to_string(review_for, ', ') AS review_for, n_cells, n_labelled, n_leucocytes, n_blasts, n_unverified, n_unclassified,
       n_contested, variant, left(model_id, 12) AS model, rules_version, in_force_from, in_force_until,
       is_in_force AS counts_now, left(digest, 12) AS digest, withdrawn_at
FROM bloodcell.result_version
WHERE barcode = :'barcode'
ORDER BY slide_id, version;
