"""What is kept of a layer's output, computed on the device as it passes.

A reducer takes hidden (text, position, feature) and a mask (text, position) of the positions that count, and gives
float32 (text, feature). Reducers know nothing of engines, padding or layers: whatever is not in the mask is not there.
MomentSums goes on from there: it adds the pooled texts up, so that not even they are kept.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class Reducer(Protocol):
    """One row per text and layer, from the positions in the mask; or with EachToken a row per position.

    A class that is made without arguments: an engine in other processes makes its own.
    """

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


class EachToken:
    """h at each of the positions, one after the other: of a batch, (token, feature)."""

    name = "token"

    def __call__(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """hidden (text, position, feature), mask (text, position) → (token, feature), text by text"""
        return hidden[mask].float()


class MomentSums:
    """Running sums of pooled texts in groups, and of their outer products in blocks of groups, on one device.

    Everything is counted from `centre`, the mean of the first batch. Residual streams share an offset that is a hundred
    times their differences; its square would use up the digits of a sum of products, and the difference to any one of
    the texts is exact. Products of a batch are made in float32 (the speed of a GPU), sums over batches kept in float64
    (so that their error grows neither with the number of batches nor as batches get smaller).
    Memory hangs on the shape alone: groups × layers × features and blocks × layers × features² float64.
    """

    def __init__(self, block_of: Sequence[int], blocks: Collection[int], shape: tuple[int, int], device: str):
        """
        Args:
            block_of: the block of each group; outer products are kept of the groups in `blocks`, none if there are none.
            shape: (layer, feature)
        """
        layers, width = shape
        groups, self.block_of = len(block_of), np.asarray(block_of)
        self.counts = np.zeros(groups, np.int64)
        self.centre: Tensor | None = None
        self.sums = torch.zeros(groups, layers, width, dtype=torch.float64, device=device)
        self.products = {
            block: torch.zeros(layers, width, width, dtype=torch.float64, device=device) for block in sorted(blocks)
        }

    @torch.inference_mode()
    def add(self, pooled: Tensor, groups: Sequence[int]) -> None:
        """Count texts in: pooled float32 (text, layer, feature), and the group of each text."""
        if self.centre is None:
            self.centre = pooled.mean(dim=0)
        centred = pooled - self.centre
        self._add_sums(centred, np.asarray(groups))
        for block, products in self.products.items():
            texts = torch.from_numpy(np.flatnonzero(self.block_of[groups] == block)).to(pooled.device)
            for layer, rows in enumerate(centred[texts].unbind(dim=1)):  # by layer: all at once would double the memory
                products[layer] += rows.T @ rows

    def _add_sums(self, centred: Tensor, groups: np.ndarray) -> None:
        present, of = np.unique(groups, return_inverse=True)
        self.counts += np.bincount(groups, minlength=len(self.counts))
        # A product with 0 and 1 in place of index_add: on a GPU that one adds in whatever order threads come.
        members = torch.from_numpy(np.float32(of == np.arange(len(present))[:, None])).to(centred.device)
        self.sums[torch.from_numpy(present).to(centred.device)] += torch.einsum("gt,tlf->glf", members, centred)

    @property
    def offsets(self) -> Tensor:
        """Mean of each group, from the centre on: float64 (group, layer, feature); 0 for a group without texts."""
        counts = torch.from_numpy(self.counts).clamp_min(1).to(self.sums.device)
        return self.sums / counts[:, None, None]

    @torch.inference_mode()
    def scatter(self, block: int, layer: int) -> np.ndarray:
        """Σ (x − mean of its group)(x − mean of its group)ᵀ over the texts of a block: float64 (feature, feature)."""
        of = torch.from_numpy(np.flatnonzero((self.block_of == block) & (self.counts > 0))).to(self.sums.device)
        sums, counts = self.sums[of, layer], torch.from_numpy(self.counts).to(self.sums.device)[of]
        return (self.products[block][layer] - sums.T @ (sums / counts[:, None])).cpu().numpy()
