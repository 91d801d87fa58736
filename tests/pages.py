"""What README.md and the pages of docs/ print."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted(ROOT.glob("docs/*.md"))]
TEXT = "\n".join(page.read_text() for page in PAGES)
PYTHON = dict(re.findall(r"```python\n# ([\w/.]+)[^\n]*\n(.*?)```", TEXT, re.S))
