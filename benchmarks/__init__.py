"""Speed, measured on your machine: `python -m benchmarks forward|extract|train|decode|kmeans`, from a clone.

Each prints tables and writes them, with every time, to --out as JSON and Markdown, some with a picture. What is compared takes
turns in one run; medians are reported, with the smallest and largest. docs/performance.md has what they printed here.
Accuracy is measured in reproduce/.
"""
