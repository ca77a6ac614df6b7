"""The embedded model from nothing: its corpus, its tokenizer and its two training stages."""
