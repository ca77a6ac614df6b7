"""One file a kind of stage: each takes a model and rows, and leaves an adapter with its manifest."""
