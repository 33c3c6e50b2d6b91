"""The settings on the page Recover: every schedule's own, with its help in both languages, and the package's word where one is refused."""

from __future__ import annotations

from dataclasses import fields

import pytest
from streamlit.testing.v1 import AppTest

from explorer.recover.schedules import registry, schedule_of
from explorer.recover.settings import Settings
from explorer.ui.catalogue import read
from explorer.ui.panels.schedule_form import about, step_of


def script() -> None:
    import streamlit as st

    from explorer.ui import models
    from explorer.ui.panels import recover_settings

    st.session_state["found"] = recover_settings.render(models.open_subject(st.session_state.get("which", "bikes-mlp")), None, 3)


@pytest.fixture
def app() -> AppTest:
    made = AppTest.from_function(script, default_timeout=60)
    made.session_state["language"] = "en"
    return made


def test_every_schedules_settings_are_there_with_their_defaults_and_help(app: AppTest) -> None:
    app.run()
    for name in registry:
        app.selectbox(key="recover-schedule").set_value(name).run()
        found = app.session_state["found"]
        assert not app.exception and found.fine
        assert found.schedule == registry[name]().to_dict() and schedule_of(found.schedule) == registry[name]()
        for one in fields(registry[name]):  # type: ignore[arg-type]
            assert about(registry.help(name), one.name), f"{name}: the docstring does not say what {one.name} is"
            assert about(str(read().get(name, "schedule").string), one.name)  # type: ignore[union-attr]
            assert one.name in registry[name].labels, f"{name}: {one.name} has no name on screen"
    assert found.settings == Settings(epochs=3, lr=1e-3)  # what a person does not touch stays the package's default


@pytest.mark.parametrize(
    ("schedule", "setting", "value", "said"),
    [("gradual", "until", 1.5, "until=1.5; accepted: a number from 0 to 1"), ("iterative", "rounds", 0, "rounds=0; accepted: a whole number from 1")],
)  # fmt: skip
def test_a_value_that_is_refused_is_said_in_the_packages_words(app: AppTest, schedule: str, setting: str, value: float, said: str) -> None:
    app.run()
    app.selectbox(key="recover-schedule").set_value(schedule).run()
    app.number_input(key=f"schedule-{schedule}-{setting}").set_value(value).run()
    (error,) = app.error
    assert error.value == said and not app.session_state["found"].fine
    app.number_input(key=f"schedule-{schedule}-{setting}").set_value(1).run()
    assert not app.error and app.session_state["found"].schedule[setting] == 1


def test_choices_reach_the_order(app: AppTest) -> None:
    app.run()
    app.selectbox(key="recover-schedule").set_value("penalty").run()
    app.selectbox(key="schedule-penalty-norm").set_value("group")
    app.selectbox(key="recover-optimizer").set_value("sgd").run()
    app.number_input(key="recover-momentum").set_value(0.8)
    app.number_input(key="recover-patience").set_value(4)
    app.toggle(key="recover-distil").set_value(True).run()
    app.slider(key="recover-alpha").set_value(0.4).run()
    found = app.session_state["found"]
    assert found.schedule["norm"] == "group" and found.distil == {"alpha": 0.4}  # a regression has no temperature
    assert (found.settings.optimizer, found.settings.lr, found.settings.momentum, found.settings.patience) == ("sgd", 1e-2, 0.8, 4)
    app.selectbox(key="recover-schedule").set_value("error-based").run()
    assert app.session_state["found"].schedule["at_once"] is None
    app.number_input(key="schedule-error-based-at_once").set_value(2).run()
    assert app.session_state["found"].schedule["at_once"] == 2


def test_images_can_be_varied_and_hidden_features_followed(app: AppTest) -> None:
    app.session_state["which"] = "fashion-lenet5"
    app.run()
    assert app.session_state["found"].augment == {}
    app.toggle(key="recover-augment").set_value(True).run()
    app.number_input(key="recover-pixels").set_value(1)
    app.toggle(key="recover-distil").set_value(True).run()
    features = app.multiselect(key="recover-features-fashion-lenet5")
    assert features.options == ["conv1", "conv2", "fc1", "fc2"]  # in the model's order
    features.set_value(["conv2"]).run()
    found = app.session_state["found"]
    assert found.augment == {"pixels": 1, "flip": True}
    assert found.distil == {"alpha": 0.7, "temperature": 3.0, "features": ["conv2"], "beta": 1.0}


def test_a_table_cannot_be_shifted(app: AppTest) -> None:
    app.run()
    assert "recover-augment" not in {one.key for one in app.toggle}


def test_help_of_a_setting_and_its_step() -> None:
    text = "Rises. ``since`` and ``until`` are shares, as 0.5. Every ``every`` steps: i.e. often.\nSource: X 2017."
    assert about(text, "until") == "`since` and `until` are shares, as 0.5."
    assert about(text, "every") == "Every `every` steps: i.e. often." and about(text, "rounds") is None
    assert (step_of(0.6), step_of(1e-5), step_of(0.0), step_of(0.005)) == (0.1, 1e-5, 0.05, 0.001)
