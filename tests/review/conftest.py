"""Fixtures of the tests of the review desk."""

from tests.review.desk import running_desk
from tests.review.front_end import browser, desk, visit

__all__ = ["browser", "desk", "running_desk", "visit"]
