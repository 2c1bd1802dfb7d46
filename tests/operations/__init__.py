"""Tests of bloodcell.operations."""
