"""The training objectives: instance recognition (IR), local aggregation (LA), and supervised classification beside them.

Functions first, as formulas of dot products; then what the training loop calls. Source: Zhuang et al., CVPR 2020, section 3;
Wu et al., CVPR 2018 (IR); Zhuang, Zhai and Yamins, "Local Aggregation for Unsupervised Learning of Visual Embeddings",
ICCV 2019.

b clips of this rank's batch, M noise rows, K background rows, N rows of the memory bank, D dimensions.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...bank.kmeans import kmeans
from ...bank.memory_bank import MemoryBank
from ..seeds import generator
from .objective import Objective

Z_PER_ROW = 2876934.2 / 1281167
"""The constant Z of P(i|v) = exp(b_i . v / temperature) / Z over N: what the original measured once, on ImageNet's N."""
EPS = 1e-7


def instance_recognition(positive: Tensor, noise: Tensor, num_rows: int, temperature: float = 0.07) -> Tensor:
    """The noise-contrastive loss of telling each clip's own row from M noise rows, in log space.

        P(i|v) = exp(b_i . v / temperature) / Z,  Z = N * 2876934.2 / 1281167,  q = M / N
        loss = -log(P_i / (P_i + q + eps)) - sum over noise of log(q / (P_noise + q + eps))

    Args:
        positive: dot products with the clip's own row, [b].
        noise: those with rows drawn uniformly with replacement, [b, M].
        num_rows: N.

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
    """What `instance_recognition` estimates: -log P(i|v), where P is the softmax over all rows. For banks of few rows.

    Args:
        dots: dot products with all rows, [b, N].
        indices: each clip's own row, [b].

    Returns:
        The loss of each clip, [b].
    """
    return F.cross_entropy(dots / temperature, indices, reduction="none")


def local_aggregation(background: Tensor, close: Tensor, temperature: float = 0.07) -> Tensor:
    """How little of the probability of a clip's nearest rows lies on those that share a cluster with it.

        loss = -log(sum over close of P / sum over background of P + 1e-7)

    Args:
        background: dot products with the K nearest rows, [b, K].
        close: which of them share a cluster with the clip, bool [b, K].

    Returns:
        The loss of each clip, [b].
    """
    share = (torch.softmax(background / temperature, dim=1) * close).sum(1)
    return -torch.log(share + EPS)


def shares_cluster(clusters: Tensor, indices: Tensor, others: Tensor) -> Tensor:
    """Whether rows share a cluster in any clustering.

    Args:
        clusters: cluster of each row in each clustering, [clusterings, N].
        indices: [b].
        others: [b, K].

    Returns:
        bool [b, K].
    """
    return (clusters[:, indices, None] == clusters[:, others]).any(dim=0)


class InstanceObjective(Objective):
    """IR for the first `ir_steps` steps, LA from then on.

    Args:
        bank: the memory bank.
        ir_steps: steps of instance recognition.
        noise: M, noise rows a clip; 0: no noise but all rows, the exact softmax.
        background: K, nearest rows a clip.
        num_clusters: of each clustering.
        clusterings: how many clusterings; clustering c is seeded with `cluster_seed + c`.
        kmeans_iterations: of each clustering.
        recluster_every: steps from one clustering to the next; the first is at the first step of LA.
        seed: of the noise, which depends on it and on the step alone.
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
        """Clusters the bank when it is time, and draws the noise."""
        if step < self.ir_steps:
            if not self.noise:
                return
            noise = torch.randint(self.bank.num_rows, (batch_size, self.noise), generator=generator(self.seed, step))
            self._noise = self.world.own(noise)
        elif self.clusters is None or (step - self.ir_steps) % self.recluster_every == 0:
            self.recluster()

    def recluster(self) -> None:
        """Clusters the bank as it is now."""
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
        """Embeddings [b, D] -> [b]."""
        here = indices.clamp(min=0)
        if step < self.ir_steps and not self.noise:
            everything = torch.arange(self.bank.num_rows, device=output.device).expand(len(output), -1)
            return exact_instance_recognition(self.bank.dots(output, everything), here, self.temperature)
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
        """The rows of the batch's videos move towards its embeddings [b, D]."""
        self.bank.update(indices, output.detach())

    def state_dict(self) -> dict[str, Any]:
        """The clusters; the bank has its own."""
        return {"clusters": self.clusters}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        clusters = state["clusters"]
        self.clusters = None if clusters is None else clusters.to(self.world.device)
