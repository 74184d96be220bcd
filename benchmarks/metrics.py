"""What Tidegate says about itself at /metrics."""

import re
import urllib.request

_SAMPLE = re.compile(r"^([a-z_]+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')


class Metrics:
    """One scrape."""

    def __init__(self, port: int) -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        self._samples = [
            (name, dict(_LABEL.findall(labels or "")), float(value)) for name, labels, value in _SAMPLE.findall(text)
        ]

    def sum(self, name: str, **labels: str) -> int:
        """Of all samples of that name with these labels; KeyError when there is none."""
        found = [value for one, has, value in self._samples if one == name and labels.items() <= has.items()]
        if not found:
            raise KeyError(f"{name} {labels}")
        return int(sum(found))

    def by(self, name: str, label: str) -> dict[str, int]:
        """The samples of that name, by one label."""
        return {has[label]: int(value) for one, has, value in self._samples if one == name and label in has}
