"""The paper's way of training: pictures in colour, pairs, binary cross-entropy, Adam at one rate."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mird.kernels.frontend import FrontEnd, Transform
from mird.kernels.image import N_COLOURS, parula, picture
from mird.kernels.scalogram import open_scalogram
from mird.training.audio import CUT, cut, read_mono
from mird.training.errors import TrainingError
from mird.training.manifest import Recording
from mird.training.networks import Kind, Siamese, paper_siamese
from mird.training.tables import from_table, read_toml
from mird.training.whole import write_whole

KINDS = ("residual", "convolutional")
KERAS_EPSILON = 1e-7
"""Of Adam where the paper trains."""


@dataclass(frozen=True)
class PairSettings:
    """The network and how it is trained; the defaults are the paper's, for the residual one.

    Attributes
    ----------
    kind : {"residual", "convolutional"}
    width : int
        Of the residual body: 64 in the paper, 16 the light sibling.
    dropout : float
    n_pairs : int
        A batch; anchors are of distinct classes, half of the pairs of one class.
    n_steps : int
    rate : float
        Adam's, constant.
    l2_convolution, l2_dense : float
        Times the sum of squared weights, added to the loss.
    """

    kind: str = "residual"
    width: int = 64
    dropout: float = 0.2
    n_pairs: int = 5
    n_steps: int = 4000
    rate: float = 5e-4
    l2_convolution: float = 2e-4
    l2_dense: float = 1e-3


@dataclass(frozen=True)
class PaperRecipe:
    """A recipe of the paper."""

    seed: int = 0
    front_end: FrontEnd = field(default_factory=FrontEnd.paper)
    pairs: PairSettings = field(default_factory=PairSettings)

    def of_windows(self, n: int) -> PaperRecipe:
        """The same with pictures of ``n`` times as much sound."""
        return replace(self, front_end=replace(self.front_end, window=n * self.front_end.window))

    def with_transform(self, transform: Transform) -> PaperRecipe:
        """The same with another picture: ``morse`` or ``stft``."""
        return replace(self, front_end=replace(self.front_end, transform=transform))


def read_paper_recipe(path: Path) -> PaperRecipe:
    """Read a recipe with a table ``pairs``; TrainingError if it cannot be one."""
    values = read_toml(path, "recipe")
    # What a recipe leaves out of its front end is the paper's, not the default one's.
    values["front_end"] = {**asdict(FrontEnd.paper()), **values.get("front_end", {})}
    recipe: PaperRecipe = from_table(PaperRecipe, values, str(path))
    if recipe.pairs.kind not in KINDS:
        raise TrainingError(f"{path}: pairs: kind={recipe.pairs.kind!r} must be one of {', '.join(KINDS)}")
    front_end = recipe.front_end
    if front_end.colour != "parula" or front_end.n_columns != front_end.n_rows:
        raise TrainingError(f"{path}: front_end: the paper's networks need square pictures with colour='parula'")
    return recipe


@dataclass(frozen=True)
class Pictures:
    """Pictures as numbers of colours, shape (n, rows, columns), of the recordings that could be used."""

    recordings: tuple[Recording, ...]
    entries: NDArray[np.uint8]

    def colours(self, numbers: Sequence[int] | NDArray[np.int64]) -> Tensor:
        """Red, green and blue, shape (n, 3, rows, columns), range [0, 1]."""
        return torch.from_numpy(parula())[torch.from_numpy(self.entries[numbers].astype(np.int64))].permute(0, 3, 1, 2)


def draw_pictures(
    recordings: Sequence[Recording],
    front_end: FrontEnd,
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Pictures, tuple[str, ...]]:
    """A picture of each recording's first window that sounds, read back from ``folder`` if it was computed before.

    Returns
    -------
    pictures : Pictures
    left_out : tuple of str
        One line for each recording that is damaged or silent.

    Raises
    ------
    TrainingError
        If the folder cannot be written.
    """
    key = hashlib.sha256(f"{CUT} {front_end.fingerprint()}".encode())
    for recording in recordings:
        stat = recording.path.stat()
        key.update(f"{recording.path}|{stat.st_size}|{stat.st_mtime_ns}\n".encode())
    target = folder / f"colours-{key.hexdigest()[:16]}.npz"
    if target.exists():
        try:
            with np.load(target) as archive:
                kept, entries, left_out = archive["kept"], archive["entries"], tuple(archive["left_out"].tolist())
            return Pictures(tuple(recordings[i] for i in kept), entries), left_out
        except (OSError, ValueError, KeyError) as error:
            raise TrainingError(f"{target}: damaged picture cache: {error}; remove it and try again") from None
    transform, grey = open_scalogram(front_end), replace(front_end, colour="grey")
    kept, pictures, lines = [], [], []
    for number, recording in enumerate(recordings):
        try:
            windows = cut(read_mono(recording.path, front_end.rate_hz), front_end.window, 1)
            if not windows:
                lines.append(f"{recording.path}: without sound")
        except TrainingError as error:
            windows = []
            lines.append(str(error))
        for window in windows:
            levels = picture(transform(window[None]), grey)[0, 0]
            entries = np.minimum((levels * np.float32(N_COLOURS)).astype(np.intp), N_COLOURS - 1)
            pictures.append(entries.astype(np.uint8))
            kept.append(number)
        if progress:
            progress(number + 1, len(recordings))
    if not pictures:
        raise TrainingError(f"no recording can be used: all are damaged or without sound, as {recordings[0].path} is")
    found = np.stack(pictures)
    content = io.BytesIO()
    np.savez(content, kept=np.array(kept), entries=found, left_out=np.array(lines, dtype=np.str_))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(target, content.getbuffer())
    except OSError as error:
        raise TrainingError(f"{folder}: cannot write the picture cache: {error.strerror}") from None
    return Pictures(tuple(recordings[i] for i in kept), found), tuple(lines)


class PairTrainer:
    """Trains one Siamese network on pairs.

    Parameters
    ----------
    recipe : PaperRecipe
    pictures : Pictures
    labels : sequence of str
        Classes that are trained on, each with two pictures at least.
    checkpoint : Path or None
        Written every 500 steps and gone on from; None for none.
    """

    def __init__(
        self,
        recipe: PaperRecipe,
        pictures: Pictures,
        labels: Sequence[str],
        device: str,
        checkpoint: Path | None = None,
    ) -> None:
        self._options = options = recipe.pairs
        self._pictures, self._device, self._checkpoint = pictures, torch.device(device), checkpoint
        wanted = sorted(set(labels))
        self._identity = {
            "options": repr(options),
            "seed": recipe.seed,
            "front_end": recipe.front_end.fingerprint(),
            "classes": wanted,
        }
        self._of = [np.flatnonzero([r.label == label for r in pictures.recordings]) for label in wanted]
        few = [label for label, found in zip(wanted, self._of, strict=True) if len(found) < 2]
        if few or len(wanted) < 2:
            raise TrainingError(
                f"pairs need two classes with two clips each; too few: {', '.join(few) or ', '.join(wanted)}"
            )
        torch.manual_seed(recipe.seed)
        self._rng = np.random.default_rng(recipe.seed)
        kind: Kind = "residual" if options.kind == "residual" else "convolutional"
        # The pictures' memory has its colours last; with the weights' likewise a step takes four fifths of the time.
        self.network: Siamese = paper_siamese(kind, options.width, options.dropout).to(
            self._device, memory_format=torch.channels_last
        )  # type: ignore[call-overload]
        convolutions = [m.weight for m in self.network.modules() if isinstance(m, nn.Conv2d)]
        dense = [m.weight for m in self.network.encoder.modules() if isinstance(m, nn.Linear)]
        regular = {id(p) for p in (*convolutions, *dense)}
        # Adam adds weight_decay times the weight to the gradient: twice the factor of the squares in the loss.
        self._optimiser = torch.optim.Adam(
            [
                {"params": convolutions, "weight_decay": 2 * options.l2_convolution},
                {"params": dense, "weight_decay": 2 * options.l2_dense},
                {"params": [p for p in self.network.parameters() if id(p) not in regular], "weight_decay": 0.0},
            ],
            lr=options.rate,
            eps=KERAS_EPSILON,
        )
        self.step = 0
        self.loss = math.nan
        if checkpoint is not None and checkpoint.exists():
            self._resume(checkpoint)

    def run(
        self, on_step: Callable[[int, float], None] = lambda *_: None, stop: Callable[[], bool] = lambda: False
    ) -> bool:
        """Train to the last step; False if ``stop()`` ended it, with a checkpoint left.

        Raises
        ------
        TrainingError
            If the loss or its gradient is no longer finite; the weights are those of before.
        """
        self.network.train()
        while self.step < self._options.n_steps:
            if stop():
                self._save()
                return False
            a, b, same = self.draw()
            self._optimiser.zero_grad(set_to_none=True)
            odds = self.network(self._pictures.colours(a).to(self._device), self._pictures.colours(b).to(self._device))
            loss = functional.binary_cross_entropy_with_logits(odds, torch.from_numpy(same).to(self._device))
            self.loss = loss.item()
            if not math.isfinite(self.loss):
                raise self._diverged(f"loss is {self.loss}")
            loss.backward()  # type: ignore[no-untyped-call]
            length = nn.utils.get_total_norm(p.grad for p in self.network.parameters() if p.grad is not None).item()
            if not math.isfinite(length):
                raise self._diverged(f"length of the gradient is {length}")
            self._optimiser.step()
            self.step += 1
            on_step(self.step, self.loss)
            if self.step % 500 == 0:
                self._save()
        self._save()
        return True

    def _diverged(self, what: str) -> TrainingError:
        return TrainingError(
            f"{what} at step {self.step}; lower pairs.rate={self._options.rate} in the recipe, which is another one "
            "then, with an --out folder of its own"
        )

    def draw(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """One batch of pairs: picture numbers of either side, and 1 where they are of one class; shapes (n_pairs,)."""
        n, n_classes = self._options.n_pairs, len(self._of)
        # Distinct as far as there are classes; the paper's split of two classes has five pairs, too.
        anchors = np.concatenate([self._rng.permutation(n_classes) for _ in range(-(-n // n_classes))])[:n]
        n_same = n // 2 + (n % 2 and int(self._rng.integers(2)))
        same = np.arange(n) < n_same
        first, second = [], []
        for anchor, one in zip(anchors, same, strict=True):
            if one:
                a, b = self._rng.choice(self._of[anchor], 2, replace=False)
            else:
                other = (anchor + self._rng.integers(1, n_classes)) % n_classes
                a, b = self._rng.choice(self._of[anchor]), self._rng.choice(self._of[other])
            first.append(a)
            second.append(b)
        return np.array(first), np.array(second), same.astype(np.float32)

    @torch.no_grad()
    def scores(self, numbers: Sequence[int], pairs: NDArray[np.int64]) -> NDArray[np.float32]:
        """P's logit of pairs of pictures, shape (n_pairs,); ``pairs`` has shape (n_pairs, 2), of ``numbers``."""
        self.network.eval()
        parts = [
            self.network.encoder(self._pictures.colours(numbers[i : i + 16]).to(self._device)).cpu()
            for i in range(0, len(numbers), 16)
        ]
        place = {number: at for at, number in enumerate(numbers)}
        embedded, head = torch.cat(parts), self.network.head.cpu()
        a, b = (torch.tensor([place[int(number)] for number in side]) for side in pairs.T)
        sides = zip(torch.split(a, 256), torch.split(b, 256), strict=True)
        found = torch.cat([head(embedded[x], embedded[y]) for x, y in sides])
        self.network.head.to(self._device)
        return found.numpy()

    def _save(self) -> None:
        if self._checkpoint is None:
            return
        state = {
            "step": self.step,
            "loss": self.loss,
            **self._identity,
            "network": self.network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "rng": self._rng.bit_generator.state,
            "torch": torch.get_rng_state(),
        }
        content = io.BytesIO()
        torch.save(state, content)
        try:
            self._checkpoint.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._checkpoint, content.getbuffer())
        except OSError as error:
            raise TrainingError(f"{self._checkpoint}: cannot write the checkpoint: {error.strerror}") from None

    def _resume(self, checkpoint: Path) -> None:
        try:
            state = torch.load(checkpoint, map_location=self._device, weights_only=True)
            # A checkpoint of before these were noted goes on, too.
            same = all(state.get(key, wanted) == wanted for key, wanted in self._identity.items())
        except Exception as error:  # noqa: BLE001 - torch raises many kinds for a damaged file
            reason = (str(error).splitlines() or [repr(error)])[0][:200]
            raise TrainingError(f"{checkpoint}: damaged checkpoint: {reason}; remove it to start again") from None
        if not same:
            raise TrainingError(
                f"{checkpoint}: is of another recipe or other classes; choose another --out folder or remove it"
            )
        self.network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._rng.bit_generator.state = state["rng"]
        torch.set_rng_state(state["torch"].cpu())
        self.step, self.loss = state["step"], state.get("loss", math.nan)
