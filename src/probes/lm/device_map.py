"""Which parts of a network go to which GPU, where one GPU does not hold it.

Whole blocks, in order, about as many on each GPU. Where a network lies so, accelerate's hooks carry the residual stream from
GPU to GPU: it has the memory of all and the speed of one. A block's output is reduced where the block is (probes.lm.engines),
and only what is kept of it comes to the first GPU, which has the token ids too.
"""

from collections.abc import Mapping

from accelerate import dispatch_model, infer_auto_device_map
from accelerate.utils import get_balanced_memory
from transformers import PreTrainedModel

from probes.errors import TooLargeError

ROOM = 0.9
"""Share of a GPU's free memory that weights take at most; texts, sums and what is cached of them need the rest."""


def device_map(network: PreTrainedModel, free: Mapping[str, int]) -> dict[str, str]:
    """Part of a network → GPU, by accelerate's balance. Nothing goes to the CPU or to disk.

    Args:
        network: with weights, or the shape alone (lm.weights.without_weights).
        free: bytes of each GPU, the first of which gets the embeddings.

    Raises TooLargeError where whole blocks do not fit, though all weights together may.
    """
    devices, whole = list(free), [*(network._no_split_modules or ())]
    room: dict[int | str, int | str] = {i: int(ROOM * free[device]) for i, device in enumerate(devices)}
    even = get_balanced_memory(network, room, whole, network.dtype)
    places = infer_auto_device_map(network, even, whole, network.dtype)
    lacking = [part for part, place in places.items() if place not in room]
    if lacking:
        have = ", ".join(f"{device} {size / 1e9:,.1f} GB" for device, size in free.items())
        raise TooLargeError(
            f"{len(lacking)} parts of {type(network).__name__} (first: {lacking[0]}) find no place on {have} free, of which "
            f"weights take {ROOM:.0%} and blocks go whole. Nothing was loaded. Let the process see more GPUs, or larger ones."
        )
    return {part: devices[place] for part, place in places.items() if isinstance(place, int)}


def dispatch(network: PreTrainedModel, places: Mapping[str, str]) -> None:
    """Move the parts of a network to their places, as transformers does with what it reads from disk."""
    dispatch_model(network, dict(places), skip_keys=list(network._skip_keys_device_placement or ()))
