"""Weights to go on from: those of an encoder's file, in the place of random ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from mird.kernels.encoder import open_encoder
from mird.kernels.encoder_graph import float_graph, load_graph
from mird.kernels.frontend import FrontEnd
from mird.training.errors import TrainingError
from mird.training.networks import ResidualEncoder

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def start_from(path: Path, encoder: ResidualEncoder, front_end: FrontEnd, pictures: Tensor) -> None:
    """Give a network the weights of a file that `mird train` exported, in float32 or int8.

    An exported file has its batch normalisation folded into the convolutions. It is taken apart again with the
    statistics of some pictures, so that training goes on from what the file computes.

    Parameters
    ----------
    path : Path
        ``encoder.onnx`` or ``encoder-int8.onnx``; in int8 the weights are those of the file, rounding and all.
    encoder : ResidualEncoder
        Changed in place.
    front_end : FrontEnd
        Of the recipe.
    pictures : Tensor, shape (n, 1, rows, columns), range [0, 1]
        A few hundred of clips to train on.

    Raises
    ------
    EngineError, TrainingError
        If the file is no encoder, or one of another front end or network.
    """
    if open_encoder(path).card.front_end != front_end:
        raise TrainingError(f"{path}: was trained on other pictures than the recipe's; give it the same [front_end]")
    layers = float_graph(load_graph(path)).graph.initializer
    # A weight that was rounded is called after the node that undoes it.
    values = {each.name.removesuffix("_DequantizeLinear_Output"): numpy_helper.to_array(each) for each in layers}
    state = encoder.state_dict()
    norms = {name for name, module in encoder.named_modules() if isinstance(module, NORMS)}
    for name, old in state.items():
        if name.rpartition(".")[0] not in norms:
            new = values.get(f"encoder.{name}")
            if new is None or new.shape != tuple(old.shape):
                found = "no such layer" if new is None else f"shape {new.shape}"
                raise TrainingError(f"{path}: {name}: {found} where the recipe's network has {tuple(old.shape)}")
            state[name] = torch.from_numpy(new.astype(np.float32))
    encoder.load_state_dict(state)
    _settle(encoder, pictures)


def _settle(encoder: ResidualEncoder, pictures: Tensor) -> None:
    """Let every batch normalisation hold the statistics of what it is given, and undo itself by its own weights."""

    def settle(norm: nn.Module, given: tuple[Tensor]) -> None:
        assert isinstance(norm, NORMS)
        variance, mean = torch.var_mean(given[0], [axis for axis in range(given[0].ndim) if axis != 1])
        norm.running_mean, norm.running_var = mean, variance
        norm.bias.copy_(mean)
        norm.weight.copy_((variance + norm.eps).sqrt())

    norms = [module for module in encoder.modules() if isinstance(module, NORMS)]
    hooks = [norm.register_forward_pre_hook(settle) for norm in norms]
    was_training = encoder.training
    with torch.no_grad():
        encoder.eval()(pictures)
    encoder.train(was_training)
    for hook in hooks:
        hook.remove()
