"""Slides over HTTP."""

from tests.review.desk import RunningDesk


def test_smoke(running_desk: RunningDesk) -> None:
    slide = running_desk.slide({"neutrophil": 60, "unclassified": 3, "BL": 2})
    with running_desk.client("anna") as anna:
        page = anna.open(slide)
        assert len(page["cells"]) == 65
        refused = anna.ask_sign(slide)
        assert refused.status_code == 409, refused.text
        anna.label(slide, dict.fromkeys(slide.cells["unclassified"], "ig") | dict.fromkeys(slide.cells["BL"], "BL"))
        signed = anna.ask_sign(slide)
        assert signed.status_code == 200, signed.text
    with running_desk.stranger() as stranger:
        assert stranger.get("/healthz").json() == {"status": "healthy"}
