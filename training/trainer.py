"""The training loop: cosine cross-entropy over classes, averaged weights, checkpoints.

Cosine cross-entropy over balanced batches is the loss that generalises best to players never heard; the paper's
comparison is fitted on the finished embeddings (:mod:`mird.training.fit`).
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mird.training.augment import augment, to_input
from mird.training.distributed import World
from mird.training.errors import TrainingError
from mird.training.material import Material
from mird.training.networks import ResidualEncoder
from mird.training.recipe import FitSettings, Recipe
from mird.training.sampler import BalancedSampler
from mird.training.whole import write_whole


@dataclass(frozen=True)
class StepReport:
    """What the progress bar shows: steps done, running loss and accuracy in [0, 1], learning rate."""

    step: int
    loss: float
    accuracy: float
    rate: float


class CosineClassifier(nn.Module):
    """Class prototypes on the unit sphere; logits are scaled cosines, with an additive margin on the true class."""

    def __init__(self, n_dims: int, n_classes: int, scale: float, margin: float) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(n_classes, n_dims) * 0.05)
        self.scale = nn.Parameter(torch.tensor(scale))
        self.margin = margin

    def forward(self, embeddings: Tensor, classes: Tensor) -> Tensor:
        """Logits, shape (n, n_classes), for embeddings (n, n_dims) of the given true classes (n,)."""
        cosine = functional.normalize(embeddings) @ functional.normalize(self.prototypes).T
        return self.scale * (cosine - self.margin * functional.one_hot(classes, cosine.shape[1]))


class Step(nn.Module):
    """From pictures to logits: what is computed for a batch, and what processes share the gradients of."""

    def __init__(self, encoder: ResidualEncoder, classifier: CosineClassifier, device_type: str, *, bf16: bool) -> None:
        super().__init__()
        self.encoder, self.classifier = encoder, classifier
        self._device_type, self._bf16 = device_type, bf16

    def forward(self, pictures: Tensor, classes: Tensor) -> Tensor:
        """Logits, shape (n, n_classes), of pictures (n, 1, rows, columns) of the given true classes (n,)."""
        with torch.autocast(self._device_type, torch.bfloat16, enabled=self._bf16):
            embedded = self.encoder(pictures)
        logits: Tensor = self.classifier(embedded.float(), classes)
        return logits


class Trainer:
    """One run. Everything that it draws comes from the recipe's seed, and a checkpoint holds the generators too.

    Parameters
    ----------
    recipe : Recipe
    material : Material
    folder : Path
        Checkpoints go here, each written whole and then renamed.
    device : str
        A torch device.
    world : World
        Each process draws batches of its own; gradients are averaged over all, and the first process writes.
    """

    def __init__(
        self, recipe: Recipe, material: Material, folder: Path, device: str = "cpu", world: World | None = None
    ) -> None:
        self._world = world = world or World()
        self.recipe = recipe
        self.folder = folder
        self._device = torch.device(device)
        self._material = material
        torch.manual_seed(recipe.seed)
        options = recipe.optimiser
        self._sampler = BalancedSampler(
            [r.label for r in material.recordings],
            [r.source for r in material.recordings],
            material.weights,
            options.n_classes,
            options.n_per_class,
            np.random.default_rng(self._seed(0)),
        )
        self._generator = torch.Generator().manual_seed(recipe.seed + world.rank)
        noise = [i for i, r in enumerate(material.recordings) if not r.is_instrument]
        self._noises = torch.from_numpy(material.clean(noise)) if noise else torch.zeros(0, 1, 1)
        self.encoder = ResidualEncoder(recipe.network.width, 1, "pooled", recipe.network.n_dims).to(
            self._device, memory_format=torch.channels_last
        )  # type: ignore[call-overload]
        self.classifier = CosineClassifier(
            recipe.network.n_dims, len(self._sampler.classes), options.scale, options.margin
        ).to(self._device)
        self._whole = Step(self.encoder, self.classifier, self._device.type, bf16=options.bf16)
        self._compute: nn.Module = self._whole
        average = torch.optim.swa_utils.get_ema_multi_avg_fn(options.average)  # type: ignore[no-untyped-call]
        self.averaged = torch.optim.swa_utils.AveragedModel(self.encoder, multi_avg_fn=average, use_buffers=True)
        self._optimiser = torch.optim.AdamW(
            [
                {"params": [p for p in self.encoder.parameters() if p.ndim > 1], "weight_decay": options.weight_decay},
                {"params": [p for p in self.encoder.parameters() if p.ndim <= 1], "weight_decay": 0.0},
                {"params": list(self.classifier.parameters()), "weight_decay": 0.0},
            ],
            lr=options.rate,
        )
        self.step = 0
        self._loss = self._accuracy = 0.0

    def run(
        self,
        on_step: Callable[[StepReport], None],
        checkpoint_every: int = 500,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Train to the recipe's last step, or until ``stop()``; a checkpoint is left either way.

        One is left, too, where ``on_step`` raises, if it can be written.

        Raises
        ------
        TrainingError
            If the loss or its gradient is no longer finite; the last checkpoint is from before.
        """
        if self._world.size > 1:
            self._compute = nn.parallel.DistributedDataParallel(
                self._whole, device_ids=[self._device] if self._device.type == "cuda" else None
            )
        try:
            while self.step < self.recipe.optimiser.n_steps and not self._world.any(here=stop()):
                report = self._one_step()
                try:
                    on_step(report)
                except BaseException:
                    with suppress(TrainingError):
                        self.save()
                    raise
                if self.step % checkpoint_every == 0:
                    self.save()
            self.save()
        finally:
            # What is wrapped holds the connections to the others, whose threads must have ended before the process
            # does: one that is met at work by the interpreter's end aborts it.
            self._compute = self._whole

    def _one_step(self) -> StepReport:
        options = self.recipe.optimiser
        rate = options.rate * _schedule(self.step / options.n_steps, options.warm_up, options.steady)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        clips, classes = self._sampler.draw()
        x, y = self._pictures(clips), torch.from_numpy(classes).to(self._device)
        self.encoder.train()
        self._optimiser.zero_grad(set_to_none=True)
        logits = self._compute(x, y)
        loss = functional.cross_entropy(logits, y)
        if self._world.any(here=not math.isfinite(loss.item())):
            raise self._diverged(f"loss is {loss.item()}")
        loss.backward()  # type: ignore[no-untyped-call]
        length = nn.utils.clip_grad_norm_(self.encoder.parameters(), options.clip_norm).item()
        if not math.isfinite(length):
            raise self._diverged(f"length of the gradient is {length}")
        self._optimiser.step()
        self.averaged.update_parameters(self.encoder)
        self.step += 1
        right = (logits.argmax(1) == y).float().mean().item()
        weight = max(0.02, 1.0 / self.step)
        self._loss += weight * (loss.item() - self._loss)
        self._accuracy += weight * (right - self._accuracy)
        return StepReport(self.step, self._loss, self._accuracy, rate)

    def _diverged(self, what: str) -> TrainingError:
        """The error for a step that would spoil the weights; it is raised before they change."""
        advice = f"lower optimiser.rate={self.recipe.optimiser.rate}"
        if self.checkpoint.exists():
            return TrainingError(f"{what} at step {self.step}; {advice} and go on from {self.checkpoint} with --resume")
        return TrainingError(f"{what} at step {self.step}, before the first checkpoint; {advice} and start again")

    def _pictures(self, clips: NDArray[np.int64]) -> Tensor:
        levels = torch.from_numpy(self._material.draw(clips, self.recipe.data.composed_share, self._sampler.rng))
        levels = augment(levels, self._noises, self.recipe.augment, self._generator)
        x = to_input(levels, self.recipe.front_end.range_db)[:, None]
        return x.to(self._device).contiguous(memory_format=torch.channels_last)

    @property
    def average(self) -> ResidualEncoder:
        """The averaged encoder: what is shipped."""
        module = self.averaged.module
        assert isinstance(module, ResidualEncoder)
        return module

    @property
    def loss(self) -> float:
        """The running loss."""
        return self._loss

    @property
    def checkpoint(self) -> Path:
        """The file that :meth:`save` writes and :meth:`resume` reads."""
        return self.folder / "checkpoint.pt"

    def _seed(self, step: int) -> int | tuple[int, ...]:
        """Of what a process draws from ``step`` on; the first one's is the recipe's."""
        return self.recipe.seed if self._world.is_first else (self.recipe.seed, self._world.rank, step)

    def _identity(self) -> str:
        """The recipe as far as training hangs on it: what is fitted afterwards may be changed."""
        return repr(replace(self.recipe, fit=FitSettings()))

    def save(self) -> None:
        """Write a checkpoint: a new file, then renamed over the old one.

        Raises
        ------
        TrainingError
            If it cannot be written; the old one, if there is one, is untouched.
        """
        if not self._world.is_first:
            return
        state: dict[str, Any] = {
            "step": self.step,
            "recipe": self._identity(),
            "classes": list(self._sampler.classes),
            "encoder": self.encoder.state_dict(),
            "classifier": self.classifier.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "sampler": self._sampler.rng.bit_generator.state,
            "generator": self._generator.get_state(),
            "torch": torch.get_rng_state(),
            "running": [self._loss, self._accuracy],
        }
        content = io.BytesIO()
        torch.save(state, content)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.checkpoint, content.getbuffer())
        except OSError as error:
            before = "the previous one is untouched" if self.checkpoint.exists() else "there is none from before"
            raise TrainingError(f"{self.checkpoint}: cannot write the checkpoint: {error.strerror}; {before}") from None

    def resume(self) -> bool:
        """Go on from the folder's checkpoint; False if there is none.

        Raises
        ------
        TrainingError
            If the checkpoint is damaged, of other classes, or of a recipe that differs in more than its schedule
            (rate, steps, steady) and what is fitted after training.
        """
        if not self.checkpoint.exists():
            return False
        try:
            state = torch.load(self.checkpoint, map_location=self._device, weights_only=True)
            same = _but_for_schedule(state["recipe"]) == _but_for_schedule(self._identity())
            same = same and state["classes"] == list(self._sampler.classes)
        except Exception as error:  # noqa: BLE001 - torch raises many kinds for a damaged file
            reason = (str(error).splitlines() or [repr(error)])[0][:200]
            raise TrainingError(f"{self.checkpoint}: damaged checkpoint: {reason}; remove it to start again") from None
        if not same:
            raise TrainingError(
                f"{self.checkpoint}: is of another recipe or other data; choose another --out folder or remove it"
            )
        self.step = state["step"]
        self.encoder.load_state_dict(state["encoder"])
        self.classifier.load_state_dict(state["classifier"])
        self.averaged.load_state_dict(state["averaged"])
        self._optimiser.load_state_dict(state["optimiser"])
        if self._world.is_first:
            self._sampler.rng.bit_generator.state = state["sampler"]
            self._generator.set_state(state["generator"].cpu())
        else:  # the checkpoint has the first process's generators; the others begin anew, each with its own
            self._sampler.rng = np.random.default_rng(self._seed(self.step))
            self._generator.manual_seed(self.recipe.seed + self._world.rank + self._world.size * self.step)
        torch.set_rng_state(state["torch"].cpu())
        self._loss, self._accuracy = state["running"]
        return True


def _but_for_schedule(recipe: str) -> str:
    """A recipe's text without what the schedule hangs on: a run may be made longer, or get over where it diverged.

    Nor is what is fitted after training of it, which comes last.
    """
    return re.sub(r"\b(rate|n_steps|steady)=[^,)]*", r"\1", recipe).partition("fit=")[0]


def _schedule(done: float, warm_up: float, steady: float) -> float:
    """Share of the peak rate at ``done`` in [0, 1] of the run: linear rise, a steady stretch, then half a cosine."""
    if done < warm_up:
        return (done + 1e-3) / (warm_up + 1e-3)
    falling = max(0.0, done - warm_up - steady) / (1.0 - warm_up - steady)
    return 0.5 + 0.5 * math.cos(math.pi * falling)
