"""How the windows draw texts."""

import qt

from dinomix_slicer.window.appearance import setWrappedText
from host import processEvents

TEXT = "The same run, started elsewhere: on a computer that sees the study folder under the same path."


def test_a_wrapped_text_is_as_high_as_its_lines_when_its_window_becomes_narrow_and_wide_again():
    panel = qt.QWidget()
    layout = qt.QVBoxLayout(panel)
    label = qt.QLabel()
    label.wordWrap = True
    layout.addWidget(label)
    layout.addStretch(1)
    heights = []
    for width in (400, 100, 400):
        panel.resize(width, 600)
        panel.show()
        setWrappedText(label, TEXT)
        processEvents(20)
        heights.append(label.height)
    panel.resize(100, 600)
    processEvents(20)
    heights.append(label.height)
    panel.resize(400, 600)
    processEvents(20)
    assert heights == [label.height, heights[1], label.height, heights[1]]
    assert heights[1] > 2 * label.height
