"""The possible outcomes of a file in a drop, and what the operator does about each."""

from __future__ import annotations

from typing import Final

QUARANTINE_REASONS: Final = {
    "empty": "The file has no bytes. Export it again.",
    "too_many_bytes": "Larger than BLOODCELL_MAX_FILE_BYTES. Check what it is; raise the setting if it is a cell.",
    "not_an_image": "Not a JPEG, PNG, BMP or TIFF file. Check the analyser's export.",
    "truncated": "The file ends too early. Export it again.",
    "damaged": "The pixels cannot be decoded. Export it again.",
    "too_many_pixels": "Larger than BLOODCELL_MAX_PIXELS. Check what it is; raise the setting if it is a cell.",
    "too_small": "Smaller than BLOODCELL_MIN_SIDE_PX. Check the analyser's crop size.",
    "several_frames": "More than one image in the file. Export each image as its own file.",
    "too_many_scans": "A progressive JPEG that would take very long to decode. Export it as an ordinary JPEG.",
    "unsupported_colour": "Not 8-bit RGB, or partly transparent. Export colour images; a conversion would guess.",
    "unsupported_coding": "Intact, but of 12 bits or compressed in a way that is not read. Change the export.",
    "link": "Links are not followed out of a drop. Copy the file itself.",
    "not_a_regular_file": "A pipe, socket or device. Remove it.",
    "unreadable": "The file or folder cannot be read. Correct its permissions, or repair the disk.",
    "too_deep": "A folder nested deeper than any analyser does. Move the files up, or remove the folder.",
    "name_fits_no_pattern": "The path does not match BLOODCELL_DROP_PATTERN. Rename the file or correct the pattern.",
    "name_not_utf8": "The file name is not valid UTF-8. Rename it.",
    "name_not_visible": "The name of the file or of its folder has characters that nobody sees, such as a change of "
    "direction. Rename it.",
    "slide_record": "slide.json is not a valid slide record. Correct it; the slide's cells are kept without it.",
    "slide_identity": "The slide's folder, its slide.json and what is known of the barcode contradict each other. "
    "Find out whose slide it is, correct the folder or the record, and ingest the night again.",
    "slide_withdrawn": "A slide delivered under this barcode was withdrawn, and nothing says that this is another one. "
    "Deliver it under the right barcode, or with a slide.json that has its own acquired_at.",
    "name_taken": "The slide already has another image under this name, or under one that differs only in ending, case "
    "or leading zeros. Find out which is right.",
    "changed_after_ingest": "The file was ingested with other bytes; the cell keeps the first ones. Find out why.",
    "unexpected_error": "bloodcell failed on this file or on its slide, and went on with the others. The run's log has "
    "the traceback. Report it; the night can be ingested again at any time.",
}
"""Why a file is set aside, and the next step."""

DUPLICATE_REASONS: Final = {
    "same_image": "A cell of this slide already has the same image, apart from metadata.",
    "same_cell": "A cell of this slide already has the same pixels under this name, in another format or spelling.",
    "delivered_again": "The same cell came with an earlier night.",
}

IGNORE_REASONS: Final = {
    "hidden_file": "A name that begins with a dot, or a file in such a folder: a marker, a resource fork, a file being "
    "copied.",
    "system_file": "Thumbs.db, desktop.ini, @eaDir, lost+found and the like.",
    "slide_record": "slide.json, read as the slide's record.",
    "gone": "Set aside earlier and no longer there: renamed, moved or removed since.",
}

SLIDE_RECORD: Final = "slide.json"
