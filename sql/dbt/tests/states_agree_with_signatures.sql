-- Versions that are signed and do not say so, or say so and are not, and withheld ones without a reason.
SELECT barcode, version, state, signed_by, withheld_for
FROM {{ source('bloodcell', 'mart_slide_version') }}
WHERE (state IN ('final', 'amended', 'corrected')) <> (signed_by IS NOT NULL)
   OR (state = 'withheld' AND withheld_for = '')
   OR (state = 'machine' AND withheld_for <> '')
