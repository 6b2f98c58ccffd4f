"""Learning from the labeled patches alone: what the other methods are measured against."""

from dinomix.training.batches import Batch
from dinomix.training.losses import loss_of_heads
from dinomix.training.methods.method import Losses, Method, Term
from dinomix.training.methods.parts import fkd_losses, student_sees
from dinomix.training.run import Run


class LabeledOnly(Method):
    """``L = L_sup``, and with FKD ``+ lambda_f L_FKD`` on the labeled patches."""

    def losses(self, run: Run, batch: Batch) -> Losses:
        images = student_sees(run, batch.labeled, batch.unlabeled)
        with run.accelerator.autocast():
            heads, projected = run.state.student(images)
        supervised = Term(loss_of_heads(heads, batch.labels, candidates=run.candidates), 1.0)
        return {"supervised": supervised, **fkd_losses(run, images, projected, batch.labeled_features)}
