"""One optimization step, the same for every method."""

from typing import Any

import torch

from dinomix.errors import DinomixError
from dinomix.training.batches import Batch
from dinomix.training.ema import update_teacher
from dinomix.training.losses import require_finite
from dinomix.training.randomness import integer_seed
from dinomix.training.run import Run

_AGAIN = "The last checkpoint is kept. Begin again with a lower --set learning_rate, or with --set precision=fp32."


def training_step(run: Run, batch: Batch) -> dict[str, Any]:
    """One step of gradient descent on the weighted sum of the method's losses; then the EMA teacher follows.

    Args:
        batch: on the run's device.

    Returns:
        What the ``loss`` event holds, as tensors of this process; a term that is off is left out.

    Raises:
        DinomixError: a term or the gradient is not finite; the step is not taken.
    """
    config, accelerator, state = run.config, run.accelerator, run.state
    step = state.step
    # For networks with dropout: what is drawn depends on the step alone, so that a resumed run draws the same.
    torch.manual_seed(integer_seed(config.seed, "network", step, accelerator.process_index))
    rate = config.learning_rate * (1 - run.schedule.progress(step)) ** config.poly
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    state.labeled_draws += batch.draws

    losses = run.method.losses(run, batch)
    values = {name: term.value.detach() for name, term in losses.items()}
    total = torch.stack([term.weight * term.value for term in losses.values()]).sum()
    # The same on all processes, so that none goes on alone.
    means = accelerator.reduce(torch.stack(list(values.values())), "mean")
    if wrong := require_finite(dict(zip(values, means, strict=True))):
        raise DinomixError(f"The loss is not finite any more at step {step + 1} (term: {wrong}).", _AGAIN, "not-finite")
    state.optimizer.zero_grad()
    accelerator.backward(total)
    norm = accelerator.clip_grad_norm_(state.student.parameters(), config.clip)
    # In half precision the scaler leaves out such a step by itself.
    if accelerator.scaler is None and not bool(torch.isfinite(norm)):
        raise DinomixError(f"The gradient is not finite any more at step {step + 1}.", _AGAIN, "not-finite")
    state.optimizer.step()
    update_teacher(state.teacher, state.network, step, config.teacher_decay(run.schedule.steps))
    lambda_u = losses["unsupervised"].weight if "unsupervised" in losses else 0.0
    return {
        "total": total.detach(), **values, "lambda_u": lambda_u, "learning_rate": rate, "gradient_norm": norm,
    }  # fmt: skip
