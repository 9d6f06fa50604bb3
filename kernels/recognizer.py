"""The recognizer: windows of sound to scores per class, all on one device."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from mird.kernels.encoder import Encoder, EncoderCard
from mird.kernels.image import picture
from mird.kernels.scalogram import open_scalogram
from mird.kernels.similarity import Prototypes, judge, probabilities


class Recognizer:
    """Scalogram, picture, encoder and comparison in a row.

    The scalogram's work space belongs to this object: one thread at a time. A second recognizer for another thread may
    share the encoder.

    Parameters
    ----------
    encoder : Encoder
        Its card names the front end.

    Attributes
    ----------
    seconds : dict[str, float]
        How long each stage of the last call took: "scalogram" with the pictures, "encoder", "similarity".
    """

    def __init__(self, encoder: Encoder) -> None:
        self.seconds: dict[str, float] = {}
        self._encoder = encoder
        self._scalogram = open_scalogram(encoder.card.front_end)
        self._magnitudes = np.empty((0, len(self.frequencies_hz), encoder.card.front_end.n_columns), np.float32)

    @property
    def card(self) -> EncoderCard:
        """Front end, fingerprint, head and threshold of the encoder."""
        return self._encoder.card

    @property
    def degraded(self) -> bool:
        """Whether something slower serves than what was asked for."""
        return False

    @property
    def name(self) -> str:
        """Back ends in use, as messages name them: "scipy+onnxruntime"."""
        return f"{self._scalogram.name}+{self._encoder.name}"

    @property
    def magnitudes(self) -> NDArray[np.float32]:
        """Scalograms of the windows that were embedded last, shape (n, n_scales, n_columns), >= 0.

        Not to be changed. A full-scale sine at a row's frequency gives 1.
        """
        return self._magnitudes

    @property
    def frequencies_hz(self) -> NDArray[np.float64]:
        """Frequency of each row of the scalogram, shape (n_scales,), highest first."""
        return self._scalogram.frequencies_hz

    def embed(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embed windows of sound.

        Parameters
        ----------
        windows : NDArray[float32], shape (n, window), range [-1, 1]

        Returns
        -------
        NDArray[float32], shape (n, n_dims)
            Unit vectors.
        """
        began_s = time.perf_counter()
        self._magnitudes = self._scalogram(windows)
        pictures = picture(self._magnitudes, self.card.front_end)
        pictured_s = time.perf_counter()
        embeddings = self._encoder(pictures)
        self.seconds["scalogram"] = pictured_s - began_s
        self.seconds["encoder"] = time.perf_counter() - pictured_s
        return embeddings

    def score(self, windows: NDArray[np.float32], support: Prototypes) -> NDArray[np.float32]:
        """P(same) of every window and class of the support set, shape (n, n_classes), range (0, 1)."""
        return self.compare(self.embed(windows), support)

    def recognise(
        self, windows: NDArray[np.float32], support: Prototypes
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Embeddings of windows, as of :meth:`embed`, and their scores, as of :meth:`score`."""
        embeddings = self.embed(windows)
        return embeddings, self.compare(embeddings, support)

    def compare(self, embeddings: NDArray[np.float32], support: Prototypes) -> NDArray[np.float32]:
        """P(same) of embeddings, shape (n, n_dims), and every class, shape (n, n_classes), range (0, 1)."""
        began_s, card = time.perf_counter(), self.card
        scores = probabilities(judge(embeddings, support, card.head, card.background))
        self.seconds["similarity"] = time.perf_counter() - began_s
        return scores
