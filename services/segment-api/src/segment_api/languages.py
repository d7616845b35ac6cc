"""Which language names are shown in: `Accept-Language` against what there is (RFC 9110, section 12.5.4)."""

from segmentation.policy import LANGUAGES

_ANY = "*"


def choose_language(accept_language: str | None) -> str:
    """The language wanted most, the first named of several; English where none of ours is wanted.

    >>> choose_language("fr, zh-CN;q=0.8, en;q=0.5")
    'zh'
    """
    wanted: dict[str, float] = {}
    for item in (accept_language or "").split(","):
        tag, _, parameter = item.strip().partition(";")
        language = tag.strip().lower().partition("-")[0]
        wanted[language] = max(_quality(parameter), wanted.get(language, 0.0))
    order = [language for language in wanted if language in LANGUAGES]
    order += [language for language in LANGUAGES if language not in wanted]
    best = max(order, key=lambda language: wanted.get(language, wanted.get(_ANY, 0.0)))
    return best if wanted.get(best, wanted.get(_ANY, 0.0)) > 0 else LANGUAGES[0]


def _quality(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    if name.strip().lower() != "q":
        return 1.0
    try:
        quality = float(value)
    except ValueError:
        return 0.0
    return quality if 0 <= quality <= 1 else 0.0
