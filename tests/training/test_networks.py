"""The networks: parameters counted to the last digit, shapes, the paper's start."""

import pytest
import torch
from torch import nn

from mird.training.networks import (
    ConvolutionalEncoder,
    ResidualEncoder,
    WeightedL1,
    count_parameters,
    paper_siamese,
    profile,
)


def test_convolutional_network_has_the_paper_s_parameters() -> None:
    """Counted on torch's device without memory: 1.7 GB of weights elsewhere."""
    with torch.device("meta"):
        network = paper_siamese("convolutional")
        odds = network(torch.rand(5, 3, 224, 224), torch.rand(5, 3, 224, 224))
    assert count_parameters(network) == 420_646_209
    assert count_parameters(network.head) == 4_097
    assert odds.shape == (5,)


def test_convolutional_network_has_the_paper_s_layers() -> None:
    with torch.device("meta"):
        body = ConvolutionalEncoder().body
        shape = body(torch.rand(1, 3, 224, 224)).shape
    assert shape == (1, 102_400)
    assert [(m.out_channels, m.kernel_size) for m in body if isinstance(m, nn.Conv2d)] == [
        (64, (10, 10)),
        (128, (7, 7)),
        (128, (4, 4)),
        (256, (4, 4)),
    ]
    assert [m.p for m in body if isinstance(m, nn.Dropout)] == [0.2]


def test_paper_network_has_the_paper_s_parameters() -> None:
    network = paper_siamese()
    assert count_parameters(network) == 23_553_025
    assert count_parameters(network.head) == 18_433
    statistics = sum(b.numel() for name, b in network.named_buffers() if "running" in name)
    assert (statistics, count_parameters(network.encoder) + statistics) == (53_120, 23_587_712)


@torch.no_grad()
def test_paper_network_embeds_18432_numbers_and_compares() -> None:
    network = paper_siamese().eval()
    pictures = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    embeddings = network.encoder(pictures)
    assert embeddings.shape == (2, 18_432)
    assert torch.isfinite(embeddings).all()
    odds = network(pictures, pictures.flip(0))
    assert odds.shape == (2,)
    assert torch.allclose(odds[0], odds[1])
    assert torch.allclose(odds, network.head(embeddings, embeddings.flip(0)))


@torch.no_grad()
def test_paper_network_sees_pictures_as_they_are() -> None:
    """Of black nothing enters a stem whose biases are nought."""
    encoder = paper_siamese(width=4).encoder.eval()
    assert isinstance(encoder, ResidualEncoder)
    encoder.stem[0].bias.zero_()  # type: ignore[operator]
    assert not encoder._enter(torch.zeros(1, 3, 32, 32)).any()
    assert ResidualEncoder(4, 1, "pooled", 8).eval()._enter(torch.zeros(1, 1, 32, 32)).any()


def test_paper_network_starts_as_the_paper_s() -> None:
    torch.manual_seed(0)
    network = paper_siamese()
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 53
    weights = torch.cat([m.weight.detach().flatten() for m in convolutions])
    assert (weights.mean().item(), weights.std().item()) == pytest.approx((0.0, 0.01), abs=1e-4)
    first, *others = (m.bias for m in convolutions)
    assert first is not None
    assert (first.mean().item(), first.std().item()) == pytest.approx((0.5, 0.01), abs=5e-3)
    assert all(bias is not None and not bias.any() for bias in others)


def test_stride_sits_on_the_first_convolution_of_a_stage() -> None:
    strided = [name for name, m in ResidualEncoder().named_modules() if isinstance(m, nn.Conv2d) and m.stride == (2, 2)]
    assert strided == ["stem.0", *(f"stages.{k}.{part}.0" for k in (3, 7, 13) for part in ("narrow", "shortcut"))]


@torch.no_grad()
def test_light_sibling() -> None:
    """A quarter of the width: 1.5 million parameters in the body, 1.75 million with the projection."""
    encoder = ResidualEncoder(16, 1, "pooled", 256).eval()
    projection = count_parameters(encoder.project) + count_parameters(encoder.norm)
    assert count_parameters(encoder) == 1_748_960
    assert count_parameters(encoder) - projection == 1_486_048
    pictures = torch.rand(3, 1, 112, 112)
    embedded = encoder(pictures)
    assert embedded.shape == (3, 256)
    depths = encoder.depths(pictures)
    assert [tuple(each.shape) for each in depths] == [(3, 256), (3, 512 * 5), (3, 256 * 8), (3, 128 * 15)]
    assert torch.equal(depths[0], embedded)
    assert all(torch.pdist(depth).min() > 0.0 for depth in depths), "every depth tells pictures apart"


def test_profile_tells_high_from_low() -> None:
    maps = torch.rand(2, 3, 4, 5)
    found, turned = profile(maps), profile(maps.flip(2))
    assert found.shape == (2, 3 * 5)
    rows = found[:, : 3 * 4].reshape(2, 3, 4)
    assert torch.allclose(rows, maps.mean(3))
    assert torch.allclose(rows.flip(2), turned[:, : 3 * 4].reshape(2, 3, 4))
    assert torch.allclose(found[:, 3 * 4 :], rows.amax(2)), "the loudest row, wherever it is"
    assert torch.allclose(found[:, 3 * 4 :], turned[:, 3 * 4 :])
    moved = maps.roll(2, 3)
    assert torch.allclose(profile(moved), found), "not when in the second"


@torch.no_grad()
@pytest.mark.parametrize("shape", [(48, 32), (112, 112), (151, 87)])
def test_pooled_embedding_takes_pictures_of_any_shape(shape: tuple[int, int]) -> None:
    assert ResidualEncoder(4, 1, "pooled", 24).eval()(torch.rand(2, 1, *shape)).shape == (2, 24)


def test_weighted_l1_is_the_formula() -> None:
    head = WeightedL1(5)
    a, b = torch.rand(4, 5), torch.rand(4, 5)
    wanted = ((a - b).abs() * head.compare.weight[0]).sum(1) + head.compare.bias
    assert torch.allclose(head(a, b), wanted)
    assert torch.equal(head(a, b), head(b, a))
