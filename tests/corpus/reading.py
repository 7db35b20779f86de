"""The corpus of configuration files in which secrets are marked.

Each file is kept with `.txt` behind its name, so that no tool takes it for its own configuration. All secrets are
made up. Well-known tokens are spelled only here, from pieces, so that scanners of the repository have
nothing to find: a file holds `@@name@@` in their place.
"""

from __future__ import annotations

import random
import re
import string
from pathlib import Path

from securecfg.sources.detection import SourceFile

FOLDER = Path(__file__).parent
FILES = FOLDER / "files"

_MARKER = re.compile(r"@@(\w+)@@")
_ALPHANUMERIC = string.ascii_letters + string.digits


def _made_up(name: str, length: int, alphabet: str = _ALPHANUMERIC) -> str:
    return "".join(random.Random(name).choices(alphabet, k=length))


TOKENS = {
    "stripe_test": "sk_" + "test_" + _made_up("stripe", 24),
    "pypi": "pypi-" + "AgE" + _made_up("pypi", 120),
    "npm": "npm" + "_" + _made_up("npm", 36),
    "google_oauth": "GOC" + "SPX-" + _made_up("oauth", 28),
    "google_api": "AI" + "za" + _made_up("google", 35),
    "sendgrid": "S" + "G." + _made_up("send", 22) + "." + _made_up("grid", 43),
    "slack_hook": "https://hooks.slack" + ".com/services/T0CANARY1/B0CANARY2/" + _made_up("slack", 24),
    "aws_id": "AK" + "IA" + _made_up("aws", 16, string.ascii_uppercase + string.digits),
    "github": "gh" + "p_" + _made_up("github", 36),
    "gitlab": "gl" + "pat-" + _made_up("gitlab", 20),
    "jwt": ".".join(("ey" + "JhbGciOiJIUzI1NiJ9", "ey" + "JzdWIiOiJjYW5hcnkifQ", _made_up("jwt", 43))),
    "hf": "hf" + "_" + _made_up("hf", 34, string.ascii_letters),
    "openai": "sk" + "-proj-" + _made_up("openai", 48),
    "discord_hook": "https://discord" + ".com/api/webhooks/123456789012345678/" + _made_up("discord", 68),
    "telegram": "1234567890" + ":AA" + _made_up("telegram", 33),
    "pem_begin": "-----BEGIN " + "OPENSSH PRIVATE KEY-----",
    "pem_end": "-----END " + "OPENSSH PRIVATE KEY-----",
    "pem_inline": "-----BEGIN " + "PRIVATE KEY-----\\nMIIEvcanary\\n-----END " + "PRIVATE KEY-----\\n",
}


def read_corpus() -> list[SourceFile]:
    """Return every file of the corpus with its tokens spelled out."""
    return [
        SourceFile(
            path.relative_to(FILES).as_posix().removesuffix(".txt"),
            _expanded(path.read_text(encoding="utf-8")).encode(),
        )
        for path in sorted(FILES.rglob("*.txt"))
    ]


def read_marks(name: str) -> list[str]:
    """Return the lines of a list beside the corpus, without comments."""
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    return sorted(line.split("  ")[0].strip() for line in lines if line and not line.startswith("#"))


def _expanded(text: str) -> str:
    return _MARKER.sub(lambda found: TOKENS[found.group(1)], text)
