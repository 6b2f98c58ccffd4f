"""How names of structures are compared; needs nothing installed."""


def normalized_name(name: str) -> str:
    """A name as it is compared: case, separators and the order of words do not matter ("Right Kidney" = "kidney_right")."""
    words = name.casefold().replace("_", " ").replace("-", " ").replace("/", " ").split()
    return " ".join(sorted(word for word in words if word not in {"and", "of", "the"}))
