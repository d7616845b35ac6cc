"""Which language names are shown in: `Accept-Language` against what there is (RFC 9110, section 12.5.4)."""

from segmentation.policy import LANGUAGES


def choose_language(accept_language: str | None) -> str:
    """The best of our languages; English where none is wanted.

    >>> choose_language("fr, zh-CN;q=0.8, en;q=0.5")
    'zh'
    """
    best, best_quality = LANGUAGES[0], 0.0
    for item in (accept_language or "").split(","):
        tag, _, parameter = item.strip().partition(";")
        language = tag.strip().lower().partition("-")[0]
        quality = _quality(parameter)
        if language in LANGUAGES and quality > best_quality:
            best, best_quality = language, quality
    return best


def _quality(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    if name.strip().lower() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0
