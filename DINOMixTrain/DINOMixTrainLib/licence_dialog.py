"""The licence of the DINOv3 weights: nothing is fetched before the user has read and accepted it."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from .teachers import LICENCE


def askForLicence() -> bool:
    """Show the dialog; whether the user has accepted."""
    dialog = licenceDialog()
    try:
        return bool(dialog.exec_())
    finally:
        dialog.deleteLater()


def licenceDialog() -> Any:
    """The dialog; its button is enabled by a check mark."""
    dialog = qt.QDialog(slicer.util.mainWindow())
    dialog.windowTitle = _("Licence of the DINOv3 weights")
    text = qt.QLabel(
        _(
            "<p>DINOv3 is a foundation model by Meta. Its weights are not part of DINOMix and have a licence of their own:</p>"
            '<p><a href="{url}">{url}</a></p>'
            "<p>If you accept it, the next run that uses the teacher fetches the weights from Hugging Face (about 350 MB) into "
            "your own cache. Hugging Face may ask you to accept the licence on the model's page too, and to log in with "
            "<tt>hf auth login</tt>. Your images stay on this computer.</p>"
        ).format(url=LICENCE)
    )
    text.wordWrap = True
    text.openExternalLinks = True
    text.textFormat = qt.Qt.RichText
    text.minimumWidth = 440
    box = qt.QCheckBox(_("I have read the licence and accept it"))
    box.objectName = "acceptCheckBox"
    buttons = qt.QDialogButtonBox(qt.QDialogButtonBox.Ok | qt.QDialogButtonBox.Cancel)
    accept = buttons.button(qt.QDialogButtonBox.Ok)
    accept.text = _("Accept")
    accept.objectName = "acceptButton"
    accept.enabled = False
    box.connect("toggled(bool)", lambda isChecked: setattr(accept, "enabled", isChecked))
    buttons.connect("accepted()", dialog.accept)
    buttons.connect("rejected()", dialog.reject)
    layout = qt.QVBoxLayout()
    for widget in (text, box, buttons):
        layout.addWidget(widget)
    dialog.setLayout(layout)
    return dialog
