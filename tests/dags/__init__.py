"""Tests of the Dags."""
