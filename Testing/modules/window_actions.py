"""What a person does in any window, for tests."""

from waiting import processEvents


class WindowActions:
    """To be inherited beside ``unittest.TestCase``."""

    def click(self, button):
        """Click a button, which must be there and enabled."""
        self.assertTrue(button.isVisible(), f"{button.text} cannot be seen")
        self.assertTrue(button.enabled, f"{button.text} is not enabled: {button.toolTip}")
        button.click()
        processEvents(20)

    def choose(self, comboBox, text):
        """Choose an entry of a combo box by its text."""
        row = comboBox.findText(text)
        self.assertGreaterEqual(row, 0, f"there is no {text}")
        comboBox.setCurrentIndex(row)
        comboBox.activated(row)
        processEvents(20)
