"""Learning from the labeled patches alone: what the other methods are measured against."""

from dinomix.training.batches import Batch
from dinomix.training.methods.method import Losses, Method, Term
from dinomix.training.methods.parts import fkd_losses, kept_losses, loss_of_labels, student_sees
from dinomix.training.run import Run


class LabeledOnly(Method):
    """``L = L_sup``, and with FKD ``+ lambda_f L_FKD`` on the labeled patches."""

    def losses(self, run: Run, batch: Batch) -> Losses:
        images = student_sees(run, batch.labeled, batch.unlabeled)
        with run.accelerator.autocast():
            heads, projected = run.state.student(images)
        supervised = Term(loss_of_labels(run, heads, batch.labels), 1.0)
        kept = kept_losses(run, ([heads], batch.labeled, batch.labels))
        return {"supervised": supervised, **kept, **fkd_losses(run, images, projected, batch.labeled_features)}
