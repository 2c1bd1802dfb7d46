"""Tests of bloodcell.service."""
