"""What models say, and which there are -> what the API answers: the numbers, and the same in words."""

from collections.abc import Mapping, Sequence
from typing import Final

from segment_api import model_schemas
from segmentation.drivers import Driver
from segmentation.explanation import Forecast, RiskExplained
from segmentation.money import format_minor
from segmentation.versions import ModelActivation, ModelVersion

_SENTENCES: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {
        "probability": "By model {version}, the probability of no order in the next {days} days is {percent} %.",
        "expected": "The model expects net revenue of {amount} in these days.",
        "warned": "There is a churn warning: the probability is {warn_from} % or more, and it is not too late.",
        "below": "There is no churn warning: that takes a probability of {warn_from} % or more.",
        "late": "There is no churn warning any more: the customer has been silent for too long.",
        "at_risk": "No model knows the customer. By its rhythm it is at risk, so there is a churn warning.",
        "not_at_risk": "No model knows the customer. By its rhythm it is not at risk, so there is no churn warning.",
        "behaviour": "Model {version} puts the customer in {name}, with a confidence of {percent} %.",
    },
    "zh": {
        "probability": "模型 {version} 认为未来 {days} 天内不再下单的概率为 {percent} %。",
        "expected": "模型预计这段时间净收入为 {amount}。",
        "warned": "有流失预警: 概率达到 {warn_from} %, 且客户仍可挽留。",
        "below": "没有流失预警: 从 {warn_from} % 起预警。",
        "late": "不再预警: 沉默已久。",
        "at_risk": "没有模型了解该客户。按其自身节奏处于流失风险, 因此有流失预警。",
        "not_at_risk": "没有模型了解该客户。按其自身节奏没有流失风险, 因此没有流失预警。",
        "behaviour": "模型 {version} 将其归入{name}, 置信度 {percent} %。",
    },
}


def present_risk(risk: RiskExplained, language: str, *, currency: str, decimals: int) -> model_schemas.RiskExplanation:
    """The churn warning, and what it rests on."""
    forecast, sentences = risk.forecast, _SENTENCES[language]
    if forecast is None:
        words = [sentences["at_risk" if risk.warning else "not_at_risk"]]
    else:
        words = _risk_words(risk, forecast, sentences, f"{format_minor(forecast.expected_value, decimals)} {currency}")
        words += [f"{driver.text(language)}{'。' if language == 'zh' else '.'}" for driver in forecast.drivers]
    return model_schemas.RiskExplanation(
        warning=risk.warning,
        decided_by=risk.decided_by,
        warn_from=float(risk.warn_from),
        churn_probability=None if forecast is None else forecast.churn_probability,
        horizon_days=None if forecast is None else forecast.model.horizon_days,
        expected_value=None if forecast is None else format_minor(forecast.expected_value, decimals),
        drivers=[_driver(each, language) for each in forecast.drivers] if forecast else [],
        words=words,
    )


def _risk_words(risk: RiskExplained, forecast: Forecast, sentences: Mapping[str, str], expected: str) -> list[str]:
    warn_from = f"{float(risk.warn_from) * 100:g}"
    late = forecast.churn_probability >= risk.warn_from
    verdict = "warned" if risk.warning else ("late" if late else "below")
    return [
        sentences["probability"].format(
            percent=_percent(forecast.churn_probability),
            days=forecast.model.horizon_days,
            version=forecast.model.version,
        ),
        sentences["expected"].format(amount=expected),
        sentences[verdict].format(warn_from=warn_from),
    ]


def _driver(driver: Driver, language: str) -> model_schemas.DriverPart:
    return model_schemas.DriverPart(
        code=driver.code, name=driver.names[language], effect=driver.effect, words=driver.text(language)
    )


def present_behaviour(forecast: Forecast | None, language: str) -> model_schemas.BehaviourExplanation | None:
    """The segment that a model puts a customer in."""
    if forecast is None:
        return None
    name, version = forecast.behaviour.name(language), forecast.model.version
    said = {"version": version, "name": name, "percent": _percent(forecast.confidence)}
    return model_schemas.BehaviourExplanation(
        code=forecast.behaviour.code,
        name=name,
        source=f"model:{version}",
        confidence=forecast.confidence,
        words=[_SENTENCES[language]["behaviour"].format(**said)],
    )


def _percent(share: float) -> int:
    return round(share * 100)


# --- the models themselves ------------------------------------------------------------------------------------------


def present_models(
    versions: Sequence[ModelVersion], activations: Sequence[ModelActivation]
) -> model_schemas.ModelsAnswer:
    """All published models."""
    return model_schemas.ModelsAnswer(
        active=next((each.version for each in versions if each.in_force), None),
        models=[_model(each) for each in versions],
        activations=[
            model_schemas.ModelActivationAnswer(
                version=each.version,
                kind=each.kind,
                author=each.author,
                reason=each.reason,
                activated_at=each.activated_at,
                replaced_version=each.replaced_version,
            )
            for each in activations
        ],
    )


def present_model(version: ModelVersion) -> model_schemas.ModelDetail:
    """A published model with its card."""
    return model_schemas.ModelDetail(**_model(version).model_dump(), card=dict(version.card))


def _model(version: ModelVersion) -> model_schemas.ModelAnswer:
    return model_schemas.ModelAnswer(
        version=version.version,
        in_force=version.in_force,
        author=version.author,
        note=version.note,
        created_at=version.created_at,
        overruled=[model_schemas.ModelRefusal(rule=each.rule, detail=each.sentence) for each in version.refusals],
        overruled_because=version.forced_because,
    )
