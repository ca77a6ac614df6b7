"""Training pipelines: from rows of prompts and completions to a family of comparable checkpoints."""
