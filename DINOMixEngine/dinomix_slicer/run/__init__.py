"""Training runs: started, followed, drawn."""
