"""What a value looks like by itself: known tokens, passwords inside URLs and connection strings, random text.

Also what it does not mean: placeholders, references to somewhere else, paths, sentences.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

# Published formats of credentials; the sources are linked in docs/reference/detection.md.
_TOKENS = (
    ("AWS access key id", r"(?:AKIA|ASIA)[0-9A-Z]{16}"),
    ("stripe key", r"[sr]k_(?:live|test)_[0-9A-Za-z]{16,}"),
    ("stripe webhook secret", r"whsec_[0-9A-Za-z+/=]{24,}"),
    ("github token", r"gh[pousr]_[0-9A-Za-z]{36,}|github_pat_[0-9A-Za-z_]{50,}"),
    ("gitlab token", r"gl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|oas|soat)-[0-9A-Za-z_.-]{20,}"),
    ("slack token", r"xox[abeoprs]-[0-9A-Za-z-]{10,}|xapp-[0-9]-[0-9A-Za-z-]{20,}"),
    ("sendgrid key", r"SG\.[\w-]{16,32}\.[\w-]{32,64}"),
    ("twilio key", r"SK[0-9a-f]{32}"),
    ("npm token", r"npm_[0-9A-Za-z]{36}"),
    ("pypi token", r"pypi-AgE[\w-]{50,}"),
    ("google api key", r"AIza[\w-]{35}"),
    ("google oauth secret", r"GOCSPX-[\w-]{20,}|ya29\.[\w-]{20,}"),
    ("azure client secret", r"[\w~.-]{3}8Q~[\w~.-]{31,34}"),
    ("anthropic key", r"sk-ant-[\w-]{20,}"),
    ("openai key", r"sk-(?:proj-|svcacct-)?[0-9A-Za-z_-]{32,}"),
    ("hugging face token", r"hf_[0-9A-Za-z]{30,}"),
    ("digitalocean token", r"do[opr]_v1_[0-9a-f]{64}"),
    ("mailgun key", r"key-[0-9a-f]{32}"),
    ("mailchimp key", r"[0-9a-f]{32}-us[0-9]{1,2}"),
    ("shopify token", r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}"),
    ("databricks token", r"dapi[0-9a-f]{32}"),
    ("grafana token", r"glsa_[0-9A-Za-z]{32}_[0-9a-f]{8}|glc_[0-9A-Za-z+/=]{32,}"),
    ("vault token", r"hv[sbr]\.[\w-]{24,}"),
    ("terraform token", r"[0-9A-Za-z]{14}\.atlasv1\.[\w-]{60,}"),
    ("doppler token", r"dp\.(?:pt|st|ct|sa|scim)\.[0-9A-Za-z.]{40,}"),
    ("new relic key", r"NRAK-[0-9A-Z]{27}"),
    ("telegram bot token", r"[0-9]{8,10}:AA[\w-]{33}"),
    ("docker hub token", r"dckr_(?:pat|oat)_[\w-]{27,}"),
    ("age secret key", r"AGE-SECRET-KEY-1[0-9A-Z]{58}"),
    ("sentry token", r"sntry[su]_[0-9A-Za-z+/=_]{40,}"),
    ("JSON web token", r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{16,}"),
    ("slack webhook", r"https://hooks\.slack\.com/(?:services|workflows)/[\w/-]{20,}"),
    ("discord webhook", r"https://(?:\w+\.)?discord(?:app)?\.com/api/webhooks/[0-9]{10,}/[\w-]{30,}"),
    ("teams webhook", r"https://[\w.-]+\.webhook\.office\.com/webhookb2/[\w@/-]{40,}"),
)
_TOKEN = re.compile(
    r"(?<![0-9A-Za-z_])(?:"
    + "|".join(f"(?P<t{number}>{pattern})" for number, (_, pattern) in enumerate(_TOKENS))
    + r")(?![0-9A-Za-z])"
)
_PRIVATE_KEY = re.compile(r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----")
_SERVICE_ACCOUNT = re.compile(r'^\s*\{.*"private_key"\s*:\s*"-----BEGIN', re.DOTALL)

_URL_PASSWORD = re.compile(r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{1,30}://([^\s/?#:@]*):([^\s/?#]+)@")
_ASSIGNED = re.compile(
    r"(?i)(?:(?<=[?&;\s])|^)(password|passwd|pwd|accountkey|sharedaccesskey|sharedsecret|sig|auth|api_?key|access_?token|"
    r"auth_?token|token|client_?secret|secret)[ ]?=[ ]?([^&;\s\"']+)"
)
_AUTHORIZATION = re.compile(
    r"(?i)(?:^|authorization:?[ ]+[\"']?)(?:bearer|basic|token)[ ]+([\w+/=.~-]{12,})(?=[\"']|$)"
)

_PLACEHOLDER = re.compile(
    r"<[^<>]*>|\[[^\[\]]*\]|x{3,}[-x]*|X{3,}[-X]*|\*+|\.{2,}|-+|_+|\?+|0+|__\w+__|\$[A-Za-z_][\w:]*|\{\w+\}|@[a-z][a-z-]+|%[A-Za-z_]\w*%"
    r"|(?i:your[-_ ].*|your(?:password|secret|token|key|api).*|.*[-_ ](?:goes[-_ ])?here"
    r"|(?:please[-_ ]?)?change[-_ ]?(?:me|it|this)\b.*"
    r"|(?:enter|insert|replace|put|add|set)[-_ ].*|replaceme|example|sample|dummy|fake|todo|fixme|tbd|placeholder"
    r"|redacted|masked|hidden|n/?a|none|null|nil|undefined|value|unset|empty|true|false|yes|no|on|off|disabled?|enabled?)"
)
_TEMPLATE = re.compile(r"\$\{|\$__\w+\{|\$\(|\{\{|\{%|<%|%\(\w*\)s|#\{")
_ELSEWHERE = re.compile(
    r"(?:vault|bao|op|sm|ssm|awssm|gcpsm|azurekeyvault|keyring|secret|secretref|ref\+\w+|env|cmd|command|file):\S|arn:aws"
    r"|projects/[\w-]+/secrets/|ENC\[|ENC\(|encrypted:|\{cipher\}|\$ANSIBLE_VAULT|@Microsoft\.KeyVault|\{AES\}"
)
_PASSWORD_HASH = re.compile(
    r"(?:\{[\w-]+\})?\$(?:2[abxy]?|argon2\w*|[156]|apr1|y|scrypt|pbkdf2[\w-]*)\$|pbkdf2_sha\d+\$|(?:scrypt|pbkdf2):\S+\$|SCRAM-SHA|sha(?:1|256|384|512)[-:]"
)
_PUBLIC_KEY = re.compile(
    r"-----BEGIN (?:[A-Z0-9]+ )*(?:PUBLIC KEY|CERTIFICATE)|(?:ssh-(?:rsa|dss|ed25519)|ecdsa-sha2-\S+) "
    r"|age1[0-9a-z]{20,}|pk_(?:live|test)_"
)
_PATH = re.compile(
    r"(?:\.{0,2}|~|[A-Za-z]:)[/\\][\w.@ -]*(?:[/\\][\w.@ -]*)*"
    r"|[\w./\\-]+\.(?:pem|key|crt|cer|p12|pfx|jks|json|ya?ml|toml|txt|env|ini|pub|py|js|ts|php|rb|sh|html?|keystore)"
)
_EXAMPLE = re.compile(
    r"EXAMPLE|(?i:your[-_]?(?:api|key|token|secret))|(?:x{6,}|X{6,}|\*{4,}|0{12,})|1234567890abcdef|\.\.\."
)
_IDENTIFIER = re.compile(
    r"[a-z]+[0-9]{0,2}(?:[-_./:][a-z]+[0-9]{0,2})*|[A-Z]+(?:[_-][A-Z]+)*|[A-Z]?[a-z]+(?:[A-Z][a-z]+)*"
    r"|[A-Za-z_]+(?:\.[A-Za-z_]+)+(?::[A-Za-z_]+)?"
)
_WORD = r"[^\s\w]*[^\W\d_]+(?:['\u2019-][^\W\d_]+)*[^\s\w]*"
_SENTENCE = re.compile(rf"{_WORD}(?:\s+{_WORD})+")
_RANDOM = re.compile(r"[A-Za-z0-9+/_=~.-]{24,}")
_HEXADECIMAL = re.compile(r"(?:0x)?[0-9a-f]+|[0-9A-F]+")
_DIGIT_RUN = re.compile(r"[0-9]+")
_LOWER_RUN = re.compile(r"[a-z]{4,}")
_MIN_ENTROPY_BITS = 3.9  # per character; 24 random base64 characters have 4.1 or more in nine cases of ten
_MIN_RUNS_OF_DIGITS = 3
_MAX_WORDS = 2
_MAX_LOWER_RUN = 7
_MAX_SEARCHED_LENGTH = 64 * 1024


class Part(NamedTuple):
    """A part of a value that is secret.

    Attributes:
        start: Where it begins in the value.
        end: Where it ends.
        why: What was seen.
        field: What to call it where it is not the whole value.
        in_url: It stands in a URL, percent-encoded.
    """

    start: int
    end: int
    why: str
    field: str
    in_url: bool = False


def is_placeholder(value: str) -> bool:
    """Tell whether a value only holds the place of one, or says where the real one is."""
    text = value.strip()
    return bool(
        not text
        or _PLACEHOLDER.fullmatch(text)
        or _TEMPLATE.search(text)
        or _ELSEWHERE.match(text)
        or _PASSWORD_HASH.match(text)
        or _PUBLIC_KEY.match(text)
    )


def is_path(value: str) -> bool:
    """Tell whether a value is the name of a file."""
    return _PATH.fullmatch(value) is not None


def is_identifier(value: str) -> bool:
    """Tell whether a value is made of words only, as the name of something is."""
    return _IDENTIFIER.fullmatch(value) is not None


def is_sentence(value: str) -> bool:
    """Tell whether a value is several words of a language, as labels and messages are."""
    return _SENTENCE.fullmatch(value.strip()) is not None


def is_random(value: str) -> bool:
    """Tell whether a value is one long run of characters that no one chose.

    Digests and identifiers in hexadecimal are not: nothing tells them from secrets but their name.
    """
    if not _RANDOM.fullmatch(value) or _HEXADECIMAL.fullmatch(value.replace("-", "")) or is_path(value):
        return False
    words = _LOWER_RUN.findall(value)
    is_mixed = value.lower() != value != value.upper() and len(_DIGIT_RUN.findall(value)) >= _MIN_RUNS_OF_DIGITS
    if not is_mixed or len(words) > _MAX_WORDS or any(len(word) >= _MAX_LOWER_RUN for word in words):
        return False
    return _entropy_bits(value) >= _MIN_ENTROPY_BITS


def _entropy_bits(value: str) -> float:
    total = len(value)
    return -sum(count / total * math.log2(count / total) for count in Counter(value).values())


def whole_secret(value: str) -> str:
    """Return what a value is that is secret as a whole by its shape, or an empty string."""
    if _PRIVATE_KEY.search(value):
        return "service account key" if _SERVICE_ACCOUNT.match(value) else "private key"
    return ""


def secret_parts(value: str) -> Iterator[Part]:
    """Yield the parts of a value that are secret by their shape; they may overlap, the surest come first.

    Nothing is looked for in a value of more than 64 Ki characters.
    """
    if len(value) > _MAX_SEARCHED_LENGTH:
        return
    for found in _URL_PASSWORD.finditer(value):
        if not _is_example_login(found.group(1), found.group(2)):
            yield Part(found.start(2), found.end(2), "password in URL", "password", in_url=True)
    for found in _TOKEN.finditer(value):
        if not _EXAMPLE.search(found.group()):
            number = int((found.lastgroup or "t0")[1:])
            yield Part(found.start(), found.end(), _TOKENS[number][0], "token")
    if value.count("=") > 1 or "?" in value:  # a lone `token=...` is for the names to judge
        is_url = "://" in value and ";" not in value
        for found in _ASSIGNED.finditer(value):
            if not is_placeholder(found.group(2)) and not _EXAMPLE.search(found.group(2)):
                why = "secret in URL" if is_url else "secret in connection string"
                field = found.group(1).lower()
                yield Part(found.start(2), found.end(2), why, field, in_url=is_url and "+" not in found.group(2))
    found_header = _AUTHORIZATION.search(value)
    if found_header is not None and any(character.isdigit() for character in found_header.group(1)):
        yield Part(found_header.start(1), found_header.end(1), "authorization header", "credential")


def _is_example_login(user: str, password: str) -> bool:
    if is_placeholder(password) or _EXAMPLE.search(password):
        return True
    return user.lower() in {"user", "username", "usr"} and password.lower() in {"pass", "password", "passwd", "pwd"}


def looks_like_example(value: str) -> bool:
    """Tell whether a value is one of those that documentation shows."""
    return _EXAMPLE.search(value) is not None
