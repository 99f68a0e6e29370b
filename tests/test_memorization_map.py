"""The map of memorized share: shares, the level line and errors of hand-made trials, whose answers are known."""

import numpy as np
import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from memsweep.analysis.core import frames
from memsweep.analysis.core.catalog import questions
from memsweep.analysis.questions import memorization_map
from memsweep.analysis.questions.memorization_map import CROSSING, DECAY, MEMORIZED, NOISE, TEST, TRAIN
from memsweep.analysis.report import report
from memsweep.spec.config import TrialConfig
from tests import browser as browsers
from tests.test_analysis import drawn, only, trials
from tests.test_report import store_of

DECAYS = (1e-4, 1e-3, 1e-2, 1e-1)


def trained(noise, decay, memorized, seed=0, validation=50, test=50, **fields):
    """A trial of 1,000 training examples that errs on the wrong labels and memorizes a percentage of them."""
    changed = round(1000 * noise)
    counts = {"train_count": 1000, "train_correct_count": 1000 - changed, "validation_count": 100, "test_count": 100}
    counts |= {"validation_correct_count": validation, "test_correct_count": test}
    counts |= {"label_changed_count": changed, "memorized_count": changed * memorized // 100}
    return {NOISE: noise, DECAY: decay, "seed": seed, **counts, **fields}


def summary_of(*rows):
    return memorization_map.summarize(trials(*rows))


def column(*memorized, noise=0.2, **fields):
    """Trials of one seed at one noise fraction along DECAYS; None is a trial that is not stored."""
    return [
        trained(noise, decay, share, **fields) if share is not None else
        trained(noise, decay, 0, **{**fields, "status": frames.MISSING})
        for decay, share in zip(DECAYS, memorized, strict=True)
    ]  # fmt: skip


def test_shares_are_of_wrong_labels_and_errors_of_all():
    summary = summary_of(trained(0.2, 0.01, 30, seed=0, test=80), trained(0.2, 0.01, 50, seed=1, test=90))
    estimates = {row["quantity"]: row["estimate"] for row in summary.to_dict("records")}
    assert estimates[MEMORIZED] == pytest.approx(0.4)
    assert (estimates[TRAIN], estimates[TEST]) == pytest.approx((0.2, 0.15))
    assert estimates["validation error"] == pytest.approx(0.5)


def test_without_noise_there_are_errors_and_no_memorized_share():
    summary = summary_of(trained(0.0, 0.01, 0), trained(0.2, 0.01, 30), trained(0.0, 0.1, 0, status=frames.MISSING))
    assert set(summary[summary["quantity"] == MEMORIZED][NOISE]) == {0.2}
    assert only(summary, quantity=TEST, **{NOISE: 0.0, DECAY: 0.1})["missing"] == 1


def test_the_level_lies_between_neighbours_in_the_logarithm_of_decay():
    """0.9 to 0.1 is halved half-way; 0.6 to 0.2 after a quarter of the step."""
    summary = summary_of(*column(100, 90, 10, 0, seed=0), *column(100, 60, 20, 0, seed=1))
    level = only(summary, quantity=CROSSING)
    assert level["estimate"] == pytest.approx(10 ** ((-2.5 - 2.75) / 2))  # the geometric mean over seeds
    assert 10**-2.75 <= level["low"] < level["estimate"] < level["high"] <= 10**-2.5 * (1 + 1e-12)
    assert (level[NOISE], level["seeds"], level["missing"]) == (0.2, 2, 0)


@pytest.mark.parametrize(
    "shares",
    [(90, 80, 70, 60), (40, 30, 20, 10), (90, None, 10, 0), (0, 10, 90, 90)],
    ids=["always above", "always below", "a hole at the level", "rising"],
)
def test_a_seed_that_does_not_fall_through_the_level_is_missing(shares):
    level = only(summary_of(*column(100, 90, 10, 0, seed=0), *column(*shares, seed=1)), quantity=CROSSING)
    assert (level["estimate"], level["seeds"], level["missing"]) == (pytest.approx(10**-2.5), 1, 1)


def test_of_several_crossings_the_weakest_decay_counts():
    assert only(summary_of(*column(90, 10, 90, 10)), quantity=CROSSING)["estimate"] == pytest.approx(10**-3.5)


def test_without_any_crossing_there_is_no_line():
    summary = summary_of(*column(90, 80, 70, 60))
    assert CROSSING not in set(summary["quantity"])
    line = drawn(memorization_map.draw, summary)["data"][1]
    assert line["name"] == "memorized share = 0.5" and line["y"] == []


def test_the_best_decay_is_chosen_on_validation_data():
    """Test data prefer another; a decay with a hole is no candidate."""
    accuracies = {1e-4: (50, 60), 1e-3: (70, 65), 1e-2: (60, 95), 1e-1: (20, 20)}
    rows = [
        trained(noise, decay, 50, validation=validation, test=test)
        for noise in (0.2, 0.4)
        for decay, (validation, test) in accuracies.items()
    ]
    holed = [trained(0.2, 3e-3, 50, validation=99), trained(0.4, 3e-3, 50, status="failed")]
    summary = summary_of(*rows, *holed)
    assert memorization_map.strengths(summary) == {1e-4: "weakest", 1e-3: "best", 1e-1: "strongest"}
    shown = memorization_map.of_strengths(summary)
    assert set(shown[DECAY]) == {1e-4, 1e-3, 1e-1} and MEMORIZED not in set(shown["quantity"])
    curves = {trace["name"]: trace["y"] for trace in drawn(memorization_map.draw_errors, summary)["data"]}
    assert curves["0.001 (best)"] == pytest.approx([0.35, 0.35])
    assert curves["0.001 (best), train error"] == pytest.approx([0.2, 0.4])
    assert curves["share of wrong labels"] == pytest.approx([0.2, 0.4])


def test_a_sweep_without_test_examples_shows_validation_errors():
    rows = [{**trained(0.2, decay, 50, validation=70), "test_count": 0} for decay in DECAYS]
    names = [trace["name"] for trace in drawn(memorization_map.draw_errors, summary_of(*rows))["data"]]
    assert "validation error" in names and "test error" not in names


def test_squares_lie_around_their_settings_and_holes_stay_empty():
    rows = [*column(90, 60, 10, 0, noise=0.2), *column(90, 80, None, 0, noise=0.4)]
    figure = drawn(memorization_map.draw, summary_of(*rows, trained(0.2, 0.0, 90), trained(0.4, 0.0, 90)))
    squares = figure["data"][0]
    assert figure["layout"]["yaxis"]["type"] == "log" and squares["name"] == MEMORIZED
    assert squares["x"] == pytest.approx([0.1, 0.3, 0.5])
    assert np.log10(squares["y"]) == pytest.approx([-4.5, -3.5, -2.5, -1.5, -0.5])  # no place for 0
    assert np.array(squares["z"], float).tolist() == pytest.approx(
        np.array([[0.9, 0.9], [0.6, 0.8], [0.1, np.nan], [0, 0]]), nan_ok=True
    )


def test_settings_and_levels_that_lack_seeds_have_rings():
    rows = [*column(90, 80, 10, 0), *column(90, 80, 70, None, seed=1)]
    (rings,) = [t for t in drawn(memorization_map.draw, summary_of(*rows))["data"] if t["name"] == "some seeds missing"]
    assert rings["y"] == pytest.approx([1e-1, only(summary_of(*rows), quantity=CROSSING)["estimate"]], rel=1e-4)


def test_a_single_setting_is_a_square():
    figure = drawn(memorization_map.draw, summary_of(trained(0.2, 0.01, 30)))
    assert figure["data"][0]["z"] == [[0.3]]


def test_other_fields_are_held_at_the_first_trial():
    rows = [trained(0.2, 0.01, share, model_width=width) for width, share in ((8, 30), (16, 90))]
    assert only(summary_of(*rows), quantity=MEMORIZED)["estimate"] == pytest.approx(0.3)


def test_the_sweep_is_drawn_by_its_namesake():
    assert questions("memorization_map") == {"memorization_map-": memorization_map}


@browsers.needs_chromium
def test_a_square_on_a_logarithmic_axis_is_called_by_its_setting(tmp_path):
    """By keyboard, a screen reader hears the weight decay of the square, which is not the mean of its edges."""
    base = {"data.noise_kind": "wrong_labels", "data.noise_fraction": 0.2}
    settings = [TrialConfig.of({**base, "regularization.weight_decay": decay}) for decay in DECAYS]
    store_of(tmp_path, "memorization_map", [(setting, {}) for setting in settings])
    browser = browsers.open_browser(tmp_path / "profile")
    try:
        browser.get(report.write(tmp_path).as_uri())
        selector = "#memorization_map-memorized-share .js-plotly-plot"
        WebDriverWait(browser, 30).until(lambda b: b.find_elements(By.CSS_SELECTOR, f"{selector} .heatmaplayer"))
        browser.execute_script("arguments[0].focus()", browser.find_element(By.CSS_SELECTOR, selector))
        ActionChains(browser).send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT).perform()
        assert browser.find_element(By.ID, "announcement").get_attribute("textContent") == "0.3 at 0.2, 0.001"
    finally:
        browser.quit()
