"""The annotations of ``slicer.parameterNodeWrapper`` that say which values of a parameter are good."""

from abc import ABC, abstractmethod


class Validator(ABC):
    """``validate`` raises unless a value is good."""

    @abstractmethod
    def validate(self, value: object) -> None: ...


class NotNone(Validator):
    def validate(self, value: object) -> None:
        if value is None:
            raise ValueError("a value is needed, not None")


class IsInstance(Validator):
    def __init__(self, classtype) -> None:
        self.classtype = classtype

    def validate(self, value: object) -> None:
        if value is not None and not isinstance(value, self.classtype):
            raise TypeError(f"{value!r} is no {self.classtype}")


class WithinRange(Validator):
    def __init__(self, minimum, maximum) -> None:
        if minimum > maximum:
            raise ValueError(f"the range from {minimum} to {maximum} is empty")
        self.minimum = minimum
        self.maximum = maximum

    def validate(self, value) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{value} is not between {self.minimum} and {self.maximum}")


class Minimum(Validator):
    def __init__(self, minimum) -> None:
        self.minimum = minimum

    def validate(self, value) -> None:
        if not value >= self.minimum:
            raise ValueError(f"{value} is below {self.minimum}")


class Maximum(Validator):
    def __init__(self, maximum) -> None:
        self.maximum = maximum

    def validate(self, value) -> None:
        if not value <= self.maximum:
            raise ValueError(f"{value} is above {self.maximum}")


class Choice(Validator):
    def __init__(self, choices) -> None:
        self.choices = choices

    def validate(self, value: object) -> None:
        if value not in self.choices:
            raise ValueError(f"{value!r} is none of {self.choices}")


class Exclude(Validator):
    def __init__(self, excludedValues) -> None:
        self.excludedValues = excludedValues

    def validate(self, value: object) -> None:
        if value in self.excludedValues:
            raise ValueError(f"{value!r} is one of {self.excludedValues}")


class RangeBounds(Validator):
    def __init__(self, minimum, maximum) -> None:
        self.minimum = minimum
        self.maximum = maximum

    def validate(self, value) -> None:
        if not self.minimum <= value.minimum <= value.maximum <= self.maximum:
            raise ValueError(f"{value} is not between {self.minimum} and {self.maximum}")
