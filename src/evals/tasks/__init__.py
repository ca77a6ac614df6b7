"""The behaviours, one file each. Every docstring says what arXiv 2606.04413 published of it and what is ours."""
