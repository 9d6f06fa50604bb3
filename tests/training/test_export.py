"""What is exported computes what the fit computed."""

import numpy as np
import torch

from mird.training.export import UnitEncoder
from mird.training.fit import fit_projection
from mird.training.networks import ResidualEncoder
from mird.training.recipe import FitSettings


def test_the_exported_network_embeds_as_the_projection_that_was_fitted() -> None:
    torch.manual_seed(0)
    encoder = ResidualEncoder(width=4, n_channels=1, embedding="pooled", n_dims=16).eval()
    pictures = torch.rand(60, 1, 64, 64)
    pictures[50:] **= 2  # the others are alike, and most clips are not
    labels = ["most"] * 50 + ["another", "third"] * 5
    with torch.no_grad():
        features = [depth.numpy() for depth in encoder.depths(pictures)]
        projection = fit_projection(features, labels, ["one"] * 60, FitSettings(depth_dims=8))
        embeddings = UnitEncoder(encoder, projection)(pictures).numpy()
    assert np.abs(projection.centre).max() > 0.01
    np.testing.assert_allclose(embeddings, projection.apply(features), atol=1e-4)
