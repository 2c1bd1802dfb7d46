"""Fixtures of the tests of the review desk."""

from tests.review.front_end import browser, desk, visit

__all__ = ["browser", "desk", "visit"]
