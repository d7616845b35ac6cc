"""Which of our languages an `Accept-Language` asks for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segment_api.languages import choose_language
from segmentation.policy import LANGUAGES


@pytest.mark.parametrize(
    ("accept_language", "language"),
    [
        (None, "en"),
        ("", "en"),
        (",", "en"),
        ("en", "en"),
        ("zh", "zh"),
        ("zh-CN", "zh"),
        ("zh-Hans-CN", "zh"),
        ("ZH-cn", "zh"),
        ("zha", "en"),
        ("de, fr;q=0.9", "en"),
        ("de, zh;q=0.1", "zh"),
        ("en, zh", "en"),
        ("zh, en", "zh"),
        ("zh;q=0.9, en;q=0.8", "zh"),
        ("zh;q=0.8, en;q=0.9", "en"),
        ("zh;q=0.801,en;q=0.8", "zh"),
        (" zh ; q=0.9 , en ; q=0.8 ", "zh"),
        ("zh;Q=0.9, en;q=0.8", "zh"),
        ("zh;q=0", "en"),
        ("zh;q=0.000, en;q=0.001", "en"),
        ("zh;q=x, en;q=0.1", "en"),
        ("zh;q=-1", "en"),
        ("zh;q=nan", "en"),
        ("zh-CN;q=0.2, en;q=0.5, zh-TW;q=0.7", "zh"),
    ],
)
def test_the_greatest_quality_of_ours_wins(accept_language: str | None, language: str) -> None:
    assert choose_language(accept_language) == language


@pytest.mark.parametrize(
    ("accept_language", "language"),
    [("*", "en"), ("zh, *;q=0.1", "zh"), ("zh;q=0.1, *;q=0.5", "en"), ("en;q=0, *;q=0.5", "zh")],
)
def test_a_star_stands_for_the_languages_not_named(accept_language: str, language: str) -> None:
    assert choose_language(accept_language) == language


@given(st.text() | st.text(alphabet="zhen-;=q0.19, *"))
def test_whatever_is_sent_the_answer_is_a_language_of_ours(accept_language: str) -> None:
    assert choose_language(accept_language) in LANGUAGES
