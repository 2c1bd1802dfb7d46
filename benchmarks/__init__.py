"""Measurements that take minutes to days and are not part of the tests; each folder keeps the tables that it wrote.

    speed        `make bench`: time and memory, each figure the ratio of two ways that are measured in the same run
    accuracy     `make paper`: the shipped models on images they never saw; `make models` trains them
    acceptance   whole systems: weeks of nights, killed processes, container images, a fleet of machines

Benchmarks may import tests; tests never import benchmarks.
"""
