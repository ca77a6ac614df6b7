"""One file a kind of stage: each takes a model and rows, and leaves an adapter with its manifest.

Whoever imports one has trl's telemetry off, and rows of data kept out of the logs.
"""

from huggingface_hub import constants

from training.rewards.sample_log import hush

constants.HF_HUB_DISABLE_TELEMETRY = True  # trl pings at the start of every trainer otherwise
hush()
