"""Which settings a running daemon goes on with."""

from mird.daemon.reloading import HOT_SETTINGS, report, swapped
from mird.daemon.settings import Settings


def test_every_hot_setting_is_one() -> None:
    assert set(Settings.model_fields) >= HOT_SETTINGS


def test_what_can_be_changed_is_and_what_cannot_is_named() -> None:
    running = Settings(hop_ms=50, hold_ms=100)
    loaded = Settings(hop_ms=20, hold_ms=200, top_k=3, source="stdin", class_thresholds={"viola": 0.5})
    settings, changed, restart_needed = swapped(running, loaded)
    assert (settings.hop_ms, settings.hold_ms, settings.top_k, settings.source) == (50, 200, 3, "device")
    assert settings.class_thresholds == {"viola": 0.5}
    assert set(changed) == {"hold_ms", "top_k", "class_thresholds"}
    assert set(restart_needed) == {"hop_ms", "source"}
    again = swapped(settings, loaded)
    assert again[0] is settings, "nothing changes twice"
    assert again[1:] == ([], restart_needed)


def test_a_report_is_one_line() -> None:
    nothing = {"changed": [], "restart_needed": [], "support_changed": False, "calibration_changed": False}
    assert report(nothing) == "nothing has changed"
    all_of_it = {
        "changed": ["top_k", "hold_ms"],
        "restart_needed": ["source"],
        "support_changed": True,
        "calibration_changed": True,
    }
    assert report(all_of_it) == (
        "in force now: top_k, hold_ms; the support set was read anew; the calibrated gates were read anew; "
        "needs a restart: source"
    )
