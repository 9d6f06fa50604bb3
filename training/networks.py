"""The two Siamese networks of the paper, and the residual one's light sibling.

The residual body is ResNet-50 as Keras builds it (a bias in every convolution, the stride on the first 1 x 1, max-pool
without padding). At full width with the paper's flattened embedding the Siamese network has 23,553,025 trainable
parameters; the convolutional one has 420,646,209. At a quarter of the width the residual body for grey pictures has
1,486,048, and 1,748,960 with its projection to 256 numbers.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

STAGES = (3, 4, 6, 3)
ENDS = tuple(accumulate(STAGES))
"""Blocks that are done at the end of each stage."""
Embedding = Literal["flatten", "pooled"]
Kind = Literal["residual", "convolutional"]


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 convolutions around a shortcut; (n, c, h, w) to (n, 4 * width, h / stride, w / stride)."""

    def __init__(self, n_in: int, width: int, stride: int, *, project: bool) -> None:
        super().__init__()
        n_out = 4 * width
        self.narrow = nn.Sequential(nn.Conv2d(n_in, width, 1, stride), nn.BatchNorm2d(width))
        self.middle = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width))
        self.widen = nn.Sequential(nn.Conv2d(width, n_out, 1), nn.BatchNorm2d(n_out))
        self.shortcut = (
            nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride), nn.BatchNorm2d(n_out)) if project else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        y = functional.relu(self.narrow(x))
        y = functional.relu(self.middle(y))
        return functional.relu(self.widen(y) + self.shortcut(x))


class ResidualEncoder(nn.Module):
    """Pictures to embeddings.

    Parameters
    ----------
    width : int
        Width of the first stage: 64 is the paper's, 16 the light sibling.
    n_channels : int
        Channels of the picture: 3 for the paper's colours, 1 for grey.
    embedding : {"flatten", "pooled"}
        ``flatten``: the paper's 2 x 2 average pool and flatten, 18,432 numbers for 224 x 224 at full width.
        ``pooled``: the mean over the map beside the loudest row's mean over time, projected to ``n_dims`` numbers.
        The loss sees these; :meth:`depths` gives what the last three stages hold beside them.
    n_dims : int
        Length of a pooled embedding.
    """

    def __init__(
        self, width: int = 64, n_channels: int = 3, embedding: Embedding = "flatten", n_dims: int = 256
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(n_channels, width, 7, 2, padding=3), nn.BatchNorm2d(width))
        blocks: list[nn.Module] = []
        n_in = width
        for stage, n_blocks in enumerate(STAGES):
            stage_width = width * 2**stage
            for block in range(n_blocks):
                first = block == 0
                blocks.append(Bottleneck(n_in, stage_width, 2 if first and stage else 1, project=first))
                n_in = 4 * stage_width
        self.stages = nn.Sequential(*blocks)
        self.embedding = embedding
        if embedding == "pooled":
            self.project = nn.Linear(2 * n_in, n_dims)
            self.norm = nn.BatchNorm1d(n_dims)

    def forward(self, pictures: Tensor) -> Tensor:
        """Embed pictures, shape (n, channels, rows, columns), range [0, 1]; returns (n, n_dims)."""
        x = self.stages(self._enter(pictures))
        if self.embedding == "flatten":
            return functional.avg_pool2d(x, 2).flatten(1)
        return self._embed(_pool(x))

    def depths(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """Features of pictures, shape (n, channels, rows, columns), from four depths of a pooled encoder.

        The embedding holds what tells the classes of training apart; what is before it is less their own, and tells
        instruments apart that were not among them.

        Returns
        -------
        tuple of Tensor, each of shape (n, n_features)
            The embedding, and the profiles of the last, the third and the second stage.
        """
        x = self._enter(pictures)
        profiles = []
        for number, block in enumerate(self.stages, start=1):
            x = block(x)
            if number in ENDS[1:]:
                profiles.append(profile(x))
        return (self._embed(_pool(x)), *reversed(profiles))

    def _enter(self, pictures: Tensor) -> Tensor:
        if self.embedding == "pooled":  # the paper's networks are fed as they are
            pictures = (pictures - 0.35) * 3.0
        return functional.max_pool2d(functional.relu(self.stem(pictures)), 3, 2)

    def _embed(self, pooled: Tensor) -> Tensor:
        embedded: Tensor = self.norm(self.project(pooled))
        return embedded


def _pool(x: Tensor) -> Tensor:
    """The mean over the map beside the loudest row's mean over time: (n, c, h, w) to (n, 2 * c)."""
    return torch.cat([x.mean((2, 3)), x.mean(3).amax(2)], 1)


def profile(x: Tensor) -> Tensor:
    """Every row's mean over time, unlike :func:`_pool`, and the loudest row: (n, c, h, w) to (n, c * (h + 1))."""
    over_time = x.mean(3)
    return torch.cat([over_time.flatten(1), over_time.amax(2)], 1)


class ConvolutionalEncoder(nn.Module):
    """The paper's first network (its Fig. 1): four convolutions, three max-pools, and a dense layer of 4,096 sigmoids.

    Parameters
    ----------
    dropout : float, range [0, 1)
        After the last convolution.
    """

    N_DIMS = 4096
    SIDE = 20
    """Rows and columns that are left of 224."""

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n_in, n_out, side in ((3, 64, 10), (64, 128, 7), (128, 128, 4)):
            layers += [nn.Conv2d(n_in, n_out, side), nn.ReLU(), nn.MaxPool2d(2)]
        self.body = nn.Sequential(*layers, nn.Conv2d(128, 256, 4), nn.ReLU(), nn.Dropout(dropout), nn.Flatten())
        self.dense = nn.Linear(256 * self.SIDE**2, self.N_DIMS)

    def forward(self, pictures: Tensor) -> Tensor:
        """Embed pictures, shape (n, 3, 224, 224), range [0, 1]; returns (n, 4096), range (0, 1)."""
        embedded: Tensor = torch.sigmoid(self.dense(self.body(pictures)))
        return embedded


class WeightedL1(nn.Module):
    """The paper's comparison (equation 2), as a logit: sum_j gamma_j |a_j - b_j| + bias."""

    def __init__(self, n_dims: int) -> None:
        super().__init__()
        self.compare = nn.Linear(n_dims, 1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Logits of "the same instrument", shape (n,), for pairs of embeddings (n, n_dims)."""
        logits: Tensor = self.compare((a - b).abs()).squeeze(-1)
        return logits


class Siamese(nn.Module):
    """Encoder and comparison: the network that the paper counts."""

    def __init__(self, encoder: nn.Module, n_dims: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = WeightedL1(n_dims)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Logits of pairs of pictures, shape (n,)."""
        logits: Tensor = self.head(self.encoder(a), self.encoder(b))
        return logits


def paper_siamese(kind: Kind = "residual", width: int = 64, dropout: float = 0.2) -> Siamese:
    """A Siamese network as the paper has it, for pictures of 224 x 224 x 3.

    Parameters
    ----------
    kind : {"residual", "convolutional"}
        23,553,025 and 420,646,209 trainable parameters at full width.
    width : int
        Of the residual body; 16 is the light sibling.
    dropout : float, range [0, 1)
        Of the convolutional network.

    Returns
    -------
    Siamese
        Its weights are the paper's start, drawn from torch's global generator.
    """
    network = (
        Siamese(ResidualEncoder(width), 9 * 32 * width)
        if kind == "residual"
        else Siamese(ConvolutionalEncoder(dropout), ConvolutionalEncoder.N_DIMS)
    )
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.01)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    nn.init.normal_(first.bias, 0.5, 0.01)  # type: ignore[arg-type]
    return network


def count_parameters(network: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
