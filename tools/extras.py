"""Print the requirements of one extra of pyproject.toml, a line each: `python tools/extras.py dev`."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
print("\n".join(project["optional-dependencies"][sys.argv[1]]))
