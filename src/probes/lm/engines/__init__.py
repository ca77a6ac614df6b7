"""Ways to run a model so that every layer's output passes by. The signature is that of TransformersHooks.run."""
