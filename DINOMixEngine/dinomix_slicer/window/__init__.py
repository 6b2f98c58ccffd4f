"""How both modules show things."""
