"""Without the application ctk can be imported and is empty."""
