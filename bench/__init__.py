"""What the figures in docs/performance.md come from: `python -m bench`, or `python -m bench NAME…` for some of them."""
