"""Without the application qt can be imported and is empty."""
