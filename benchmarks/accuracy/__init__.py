"""Measures the shipped models on held-out real images, and writes RESULTS.md and its plots (`make paper`)."""
