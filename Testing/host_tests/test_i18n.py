"""Marking texts for translation."""

import os
import unittest

from slicer.i18n import tr as _
from slicer.i18n import translate


class I18nTest(unittest.TestCase):
    def test_text_is_returned(self):
        self.assertEqual(_("Segment"), "Segment")
        self.assertEqual(_("{count} organs").format(count=3), "3 organs")
        self.assertEqual(_("A long text"), "A long text")
        self.assertEqual([_(""), (lambda: _("inner"))()], ["", "inner"])
        self.assertEqual(translate("Context", "Segment"), "Segment")

    @unittest.skipIf(os.environ.get("SLICER_SOURCE"), "Slicer's own lets these pass")
    def test_text_made_at_run_time_is_refused(self):
        name = "liver"
        with self.assertRaisesRegex(ValueError, "run time"):
            _(f"Segment {name}")
        with self.assertRaises(TypeError):
            _(3)
