"""What is kept of a layer's output, computed on the device as it passes.

A reducer takes hidden (text, position, feature) and a mask (text, position) of the positions that count, and gives
float32 (text, feature). Reducers know nothing of engines, padding or layers: whatever is not in the mask is not there.
"""

from typing import Protocol

import torch
from torch import Tensor


class Reducer(Protocol):
    """One array per text and layer, from the positions in the mask."""

    name: str

    def __call__(self, hidden: Tensor, mask: Tensor) -> Tensor: ...


class MeanPool:
    """Mean of h over the positions."""

    name = "mean"

    def __call__(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """hidden (text, position, feature), mask (text, position) → (text, feature)"""
        weights = mask.float() / mask.sum(dim=1, keepdim=True)
        return torch.einsum("tpf,tp->tf", hidden.float(), weights)


class UnitMeanPool:
    """Mean of h/‖h‖ over the positions; its dot product with a unit vector is the mean of token cosines."""

    name = "unit_mean"

    def __call__(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """hidden (text, position, feature), mask (text, position) → (text, feature)"""
        weights = mask.float() / mask.sum(dim=1, keepdim=True)
        norms = torch.linalg.vector_norm(hidden, dim=-1, dtype=torch.float32).clamp_min(1e-12)
        return torch.einsum("tpf,tp->tf", hidden.float(), weights / norms)


class LastToken:
    """h at the last of the positions."""

    name = "last"

    def __call__(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """hidden (text, position, feature), mask (text, position) → (text, feature)"""
        positions = torch.arange(mask.shape[1], device=mask.device)
        last = torch.where(mask, positions, -1).amax(dim=1)
        return hidden[torch.arange(len(hidden), device=hidden.device), last].float()
