"""One optimization step, the same for every method."""

from typing import Any

import torch
from torch import Tensor

from dinomix.errors import DinomixError
from dinomix.training.batches import Batch
from dinomix.training.ema import update_teacher
from dinomix.training.losses import require_finite
from dinomix.training.randomness import integer_seed
from dinomix.training.run import Run
from dinomix.training.state import State

_AGAIN = "The last checkpoint is kept. Begin again with a lower --set learning_rate, or with --set precision=fp32."
MOST_SKIPPED = 40
"""Steps in a row that half precision's scaler may leave out: each halves its scale, which begins at 2^16 and may have doubled."""


def training_step(run: Run, batch: Batch) -> dict[str, Any]:
    """One step of gradient descent on the weighted sum of the method's losses; then the EMA teacher follows.

    Args:
        batch: on the run's device.

    Returns:
        What the ``loss`` event holds, as tensors of this process; a term that is off is left out.

    Raises:
        DinomixError: a term or the gradient is not finite; the step is not taken. With half precision's scaler such a step is
            left out, and only many in a row are an error.
    """
    config, accelerator, state = run.config, run.accelerator, run.state
    step = state.step
    # For networks with dropout: what is drawn depends on the step alone, so that a resumed run draws the same.
    torch.manual_seed(integer_seed(config.seed, "network", step, accelerator.process_index))
    rate = config.learning_rate * (1 - run.schedule.progress(step)) ** config.poly
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    state.labeled_draws += batch.draws

    # A forward that overflows in half precision leaves its traces in running means, and the run goes on.
    held = [buffer.clone() for buffer in state.student.buffers()] if accelerator.scaler is not None else []
    losses = run.method.losses(run, batch)
    values = {name: term.value.detach() for name, term in losses.items()}
    total = torch.stack([term.weight * term.value for term in losses.values()]).sum()
    state.optimizer.zero_grad()
    accelerator.backward(total)
    norm = accelerator.clip_grad_norm_(state.student.parameters(), config.clip)
    if accelerator.scaler is None:
        # The same on all processes, so that none goes on alone.
        means = accelerator.reduce(torch.stack(list(values.values())), "mean")
        if wrong := require_finite({**dict(zip(values, means, strict=True)), "gradient": norm}):
            raise _not_finite(wrong, step)
    state.optimizer.step()
    if state.optimizer.step_was_skipped:
        _leave_out(state, held)
    else:
        state.skipped = 0
        update_teacher(state.teacher, state.network, step, config.teacher_decay(run.schedule.steps))
    lambda_u = losses["unsupervised"].weight if "unsupervised" in losses else 0.0
    return {
        "total": total.detach(), **values, "lambda_u": lambda_u, "learning_rate": rate, "gradient_norm": norm,
    }  # fmt: skip


def _leave_out(state: State, buffers: list[Tensor]) -> None:
    """What a step that the scaler has left out leaves behind: nothing, but that it is counted."""
    state.skipped += 1
    if state.skipped > MOST_SKIPPED:
        raise _not_finite("gradient", state.step)
    for buffer, before in zip(state.student.buffers(), buffers, strict=True):
        buffer.copy_(before)


def _not_finite(wrong: str, step: int) -> DinomixError:
    """``wrong``: a term of the loss, or "gradient"."""
    what, term = ("gradient", "") if wrong == "gradient" else ("loss", f" (term: {wrong})")
    return DinomixError(f"The {what} is not finite any more at step {step + 1}{term}.", _AGAIN, "not-finite")
