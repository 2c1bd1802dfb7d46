"""Faults injected into a running system."""
