"""Instance learning: instance recognition (IR), then local aggregation (LA).

The losses come first, as functions of dot products. The objective that the training loop calls follows. Source: Zhuang et al.,
CVPR 2020, section 3; Wu et al., CVPR 2018 (IR); Zhuang, Zhai and Yamins, "Local Aggregation for Unsupervised Learning of Visual
Embeddings", ICCV 2019.

b clips of this rank's batch, M noise rows, K background rows, N rows of the memory bank, D dimensions.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...bank.clustering import kmeans
from ...bank.memory_bank import MemoryBank
from ..seeds import generator
from .objective import Objective

Z_PER_ROW = 2876934.2 / 1281167
"""Z / N, where P(i|v) = exp(b_i . v / temperature) / Z. The original measured Z once, on ImageNet's N images."""
EPS = 1e-7


def instance_recognition(positive: Tensor, noise: Tensor, num_rows: int, temperature: float = 0.07) -> Tensor:
    """Returns the noise-contrastive loss of telling each clip's own row from M noise rows, computed in log space.

        P(i|v) = exp(b_i . v / temperature) / Z,  Z = N * 2876934.2 / 1281167,  q = M / N
        loss = -log(P_i / (P_i + q + eps)) - sum over noise of log(q / (P_noise + q + eps))

    Args:
        positive: dot products with the clip's own row, [b].
        noise: dot products with M rows drawn uniformly with replacement, [b, M].
        num_rows: N.
        temperature: temperature of the probabilities.

    Returns:
        The loss of each clip, [b].
    """
    log_z = math.log(num_rows * Z_PER_ROW)
    q = noise.shape[1] / num_rows
    log_q = math.log(q + EPS)
    model = F.softplus(log_q - (positive / temperature - log_z))
    others = F.softplus(noise / temperature - log_z - log_q) + (log_q - math.log(q))
    return model + others.sum(1)


def exact_instance_recognition(dots: Tensor, indices: Tensor, temperature: float = 0.07) -> Tensor:
    """Returns -log P(i|v), where P is the softmax over all rows. `instance_recognition` estimates it. For small banks.

    Args:
        dots: dot products with all rows, [b, N].
        indices: each clip's own row, [b].
        temperature: temperature of the softmax.

    Returns:
        The loss of each clip, [b].
    """
    return F.cross_entropy(dots / temperature, indices, reduction="none")


def local_aggregation(background: Tensor, close: Tensor, temperature: float = 0.07) -> Tensor:
    """Returns the loss that pulls a clip towards those of its nearest rows that share a cluster with it.

        loss = -log(sum over close of P / sum over background of P + 1e-7)

    Args:
        background: dot products with the K nearest rows, [b, K].
        close: which of them share a cluster with the clip, bool [b, K].
        temperature: temperature of the probabilities P.

    Returns:
        The loss of each clip, [b].
    """
    share = (torch.softmax(background / temperature, dim=1) * close).sum(1)
    return -torch.log(share + EPS)


def shares_cluster(clusters: Tensor, indices: Tensor, others: Tensor) -> Tensor:
    """Returns whether rows share a cluster in any clustering.

    Args:
        clusters: cluster of each row in each clustering, [clusterings, N].
        indices: row of each clip, [b].
        others: rows to compare it with, [b, K].

    Returns:
        bool [b, K].
    """
    return (clusters[:, indices, None] == clusters[:, others]).any(dim=0)


class InstanceObjective(Objective):
    """IR for the first `ir_steps` steps, then LA.

    Args:
        bank: the memory bank.
        ir_steps: number of instance recognition steps.
        noise: M, number of noise rows per clip. 0 uses all rows, the exact softmax.
        background: K, number of nearest rows per clip.
        num_clusters: number of clusters in each clustering.
        recluster_every: number of steps between clusterings. The first is at the first step of LA.
        clusterings: number of clusterings. The seed of clustering c is `cluster_seed + c`.
        kmeans_iterations: maximum number of k-means iterations in each clustering.
        cluster_seed: seed of the first clustering.
        temperature: temperature of the probabilities.
        seed: seed for the noise, which depends only on it and the step.
    """

    def __init__(
        self,
        bank: MemoryBank,
        *,
        ir_steps: int,
        noise: int,
        background: int,
        num_clusters: int,
        recluster_every: int,
        clusterings: int = 1,
        kmeans_iterations: int = 20,
        cluster_seed: int = 1234,
        temperature: float = 0.07,
        seed: int = 0,
    ) -> None:
        self.bank, self.world = bank, bank.world
        self.ir_steps, self.noise, self.background = ir_steps, noise, background
        self.num_clusters, self.clusterings, self.recluster_every = num_clusters, clusterings, recluster_every
        self.kmeans_iterations, self.cluster_seed = kmeans_iterations, cluster_seed
        self.temperature, self.seed = temperature, seed
        self.clusters: Tensor | None = None
        """int32 [clusterings, N], the same on every rank."""
        self._noise: Tensor | None = None

    def begin_step(self, step: int, batch_size: int) -> None:
        """Draws the noise rows of an IR step. In LA, clusters the bank if a clustering is due."""
        if step < self.ir_steps:
            if not self.noise:
                return
            noise = torch.randint(
                self.bank.num_rows, (batch_size, self.noise), generator=generator(self.seed, step), device="cpu"
            )
            self._noise = self.world.local(noise)
        elif self.clusters is None or (step - self.ir_steps) % self.recluster_every == 0:
            self.recluster()

    def recluster(self) -> None:
        """Clusters the current rows of the bank."""
        labels = [
            kmeans(
                self.bank.rows,
                self.num_clusters,
                num_rows=self.bank.num_rows,
                iterations=self.kmeans_iterations,
                seed=self.cluster_seed + c,
                world=self.world,
            ).labels
            for c in range(self.clusterings)
        ]
        self.clusters = torch.stack(labels)

    def losses(self, step: int, output: Tensor, indices: Tensor, part: slice) -> Tensor:
        """Returns the loss of each clip, [b], from embeddings [b, D]."""
        here = indices.clamp(min=0)
        if step < self.ir_steps and not self.noise:
            return exact_instance_recognition(self.bank.all_dots(output), here, self.temperature)
        if step < self.ir_steps:
            assert self._noise is not None
            noise = self._noise[part].to(output.device)
            dots = self.bank.dots(output, torch.cat([here[:, None], noise], dim=1))
            return instance_recognition(dots[:, 0], dots[:, 1:], self.bank.num_rows, self.temperature)
        assert self.clusters is not None
        _, nearest = self.bank.nearest(output.detach(), self.background)
        dots = self.bank.dots(output, nearest)
        return local_aggregation(dots, shares_cluster(self.clusters, here, nearest), self.temperature)

    def end_step(self, indices: Tensor, output: Tensor) -> None:
        """Moves the bank rows of the batch's videos towards their embeddings [b, D]."""
        self.bank.update(indices, output.detach())

    def state_dict(self) -> dict[str, Any]:
        """Returns the clusters. The bank has its own state_dict."""
        return {"clusters": self.clusters}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        clusters = state["clusters"]
        self.clusters = None if clusters is None else clusters.to(self.world.device)
