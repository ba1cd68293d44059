"""Measures speed on your machine: `python -m benchmarks forward|extract|encoders|train|load|decode|kmeans|search|gpu`.

Run it in a clone. Each benchmark prints tables and writes them to --out as JSON and Markdown, some with a picture. Jobs that
are compared take turns within one run; the tables give medians. docs/performance.md shows our results. Accuracy is measured in
reproduce/.
"""
