"""Reproducing the paper: the plan, the verdicts, the page, and that a reproduction goes on where it was stopped."""

import copy
import dataclasses

import pytest

from understudy.core.architectures import ARCHITECTURES
from understudy.core.errors import Cancelled, UnderstudyError
from understudy.core.files import read_json
from understudy.core.jobs import Reporter
from understudy.training import measures, reproduce
from understudy.training.claims import HELD, NOT_HELD, NOT_TESTED, judge
from understudy.training.reproduce_page import write_page
from understudy.training.variants import PARTS, base_config, plan

UNMOVED = dict.fromkeys(("translation", "rotation", "zoom", "brightness", "contrast"), 0.0)
SMALL = {"epochs": 1.0, "batch": 8, "seeds": 1}


def differences(variant, epochs: float = 2.0) -> dict:
    base = base_config(epochs, None)
    new = variant.config(base).to_json()
    return {name: new[name] for name, value in base.to_json().items() if new[name] != value}


def test_every_run_differs_from_the_base_in_what_it_is_named_after_alone():
    runs = {variant.name: differences(variant) for variant in plan(3)}
    assert runs["base"] == {} and runs["base-1"] == {"seed": 1} and runs["base-2"] == {"seed": 2}
    assert runs["frozen-output"] == {"freeze_output": True}
    assert [list(runs[name]) for name in ("noise", "gamma", "perspective")] == [["noise"], ["gamma"], ["perspective"]]
    assert runs["no-augmentation"] == UNMOVED
    assert runs["shallow"] == {"architecture": "convolutional-shallow"}
    assert runs["fully-connected"] == {"architecture": "fully-connected", "epochs": 40.0, **UNMOVED}
    assert runs["fully-connected-jittered"] == runs["fully-connected"] | {"translation": 2.0, "rotation": 1.0}
    assert {run["architecture"] for run in runs.values() if "architecture" in run} == set(ARCHITECTURES) - {
        "convolutional"}
    assert {variant.part for variant in plan(3)} <= set(PARTS)


def test_no_run_is_longer_than_the_papers():
    assert all(variant.config(base_config(200.0, None)).epochs == 200 for variant in plan(2))
    assert base_config(200.0, None).batch == 50 and base_config(200.0, None).ramp_down == 30 / 200
    assert differences(plan(1)[-1], 30.0)["epochs"] == 200


def results(**rmse: float) -> dict:
    """Results of runs with these errors in mm; three seeds of the base lie 0.1 mm apart."""
    rmse = {"base": 1.0, "base_1": 1.05, "base_2": 0.95} | rmse
    runs = {name.replace("_", "-"): {
        "part": "base" if name.startswith("base") else "other", "rmse_mm": value, "what": name, "state": "done",
        "text": "", "errors": {"shots": {"talk": value}}, "images": 1000, "seconds": 10.0, "config": {"batch": 16},
        "train": [(100, 2.0), (1000, value)], "validation": [(500, 2.0), (1000, value)]}
        for name, value in rmse.items()}
    return {"actor": "Zoë <b>", "settings": {"epochs": 2.0, "frames": 500}, "runs": runs, "measured": {},
            "converged": {"name": "base", **runs["base"]}}


def verdict(found: dict, words: str) -> str:
    claims = [claim for claim in judge(found) if words in claim.says]
    assert len(claims) == 1
    return claims[0].verdict


@pytest.mark.parametrize(("name", "words", "wanted"), [
    ("noise", "image noise", (NOT_HELD, NOT_HELD, HELD)), ("gamma", "variable gamma", (NOT_HELD, NOT_HELD, HELD)),
    ("perspective", "perspective", (NOT_HELD, HELD, HELD)), ("frozen_output", "trainable", (NOT_HELD, NOT_HELD, HELD)),
    ("whitened_each", "whitening every", (NOT_HELD, NOT_HELD, HELD)),
    ("wide", "only slightly", (NOT_HELD, HELD, NOT_HELD)), ("wide", "slightly better than", (NOT_HELD, HELD, HELD))])
def test_a_difference_within_that_of_the_seeds_is_none(name, words, wanted):
    for rmse, verdict_wanted in zip((0.8, 1.04, 1.3), wanted, strict=True):
        assert verdict(results(**{name: rmse}), words) == verdict_wanted
    assert verdict(results(), words) == NOT_TESTED
    alone = results(**{name: 1.3})
    del alone["runs"]["base-1"], alone["runs"]["base-2"]
    assert verdict(alone, words) == NOT_TESTED  # one seed cannot tell


def test_what_was_measured_decides():
    found = results(fully_connected=0.8, fully_connected_unstabilised=1.2)
    found["measured"] = {
        "evaluation": {"rmse_mm": 0.9, "trained_rmse_mm": 0.95, "noise_mm": 0.2, "target_noise_mm": 0.01,
                       "attenuation": 0.95, "frames": 10, "marked": [1.1]},
        "fully-connected": {"noise_mm": 0.3, "attenuation": 0.99},
        "speed": {"online": 300.0, "batched": 500.0, "online_engine": "a", "batched_engine": "b"},
        "components": {"mesh_share": 0.9999, "mesh_dimensions": 90, "pictures": 2000, "picture_dimensions": None}}
    wanted = {"slightly smaller validation loss": HELD, "without stabilisation": HELD, "attenuates": NOT_HELD,
              "less stable over time": HELD, "perfectly stable": NOT_HELD, "0.92 mm": HELD, "loss and RMSE": NOT_HELD,
              "marked": HELD, "one by one": HELD, "870": NOT_HELD, "ten times": HELD, "160 components": HELD,
              "3000": NOT_HELD, "hours": NOT_HELD, "an eighth": NOT_HELD}
    assert {words: verdict(found, words) for words in wanted} == wanted
    moved = {"not moved": 1.0, "down": 1.1, "brighter": 1.2}
    for base, plain, want in ((1.2, 2.0, HELD), (1.4, 2.0, NOT_HELD), (1.2, 1.1, NOT_HELD)):
        found["measured"]["base"] = {"moved": moved | {"brighter": base}}
        found["measured"]["no-augmentation"] = {"moved": moved | {"brighter": plain, "down": 1.0}}
        assert verdict(found, "not sensitive") == want


def test_over_training_and_the_ramp_down_are_seen_in_the_curves():
    found = results()
    steps = range(1, 101)
    run = found["converged"] | {"images": 100, "config": {"ramp_down": 0.2},
                                "train": [(step, 2 / step ** 0.5) for step in steps],
                                "validation": [(step, 1.0 if step <= 80 else 0.9) for step in steps]}
    assert verdict(found | {"converged": run}, "longer training") == HELD
    assert verdict(found | {"converged": run}, "ramp-down") == HELD
    run["validation"] = [(step, 2 / step ** 0.5 if step <= 80 else 1.0) for step in steps]
    assert verdict(found | {"converged": run}, "longer training") == NOT_TESTED  # it still improves
    assert verdict(found | {"converged": run, "settings": {"frames": 0.5}}, "longer training") == NOT_HELD
    assert verdict(found | {"converged": run}, "ramp-down") == NOT_HELD


def test_the_page_says_what_did_not_hold_and_why_something_was_not_tested(tmp_path):
    found = results(noise=0.8)
    found["runs"]["fully-connected"] = copy.deepcopy(found["runs"]["base"]) | {
        "part": "fully-connected", "rmse_mm": None, "state": "failed", "text": "The landmarks are <not> installed."}
    found["claims"] = [dataclasses.asdict(claim) for claim in judge(found)]
    write_page(tmp_path, found)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    row = page[page.index("image noise as augmentation"):]
    row = row[:row.index("</tr>")]
    assert "did not hold" in row and "0.80 mm, the base 1.00 mm, its 3 seeds 0.10 mm apart" in row
    assert "--parts rejected" in row
    assert "The landmarks are &lt;not&gt; installed." in page and "Zoë &lt;b&gt;" in page
    assert "<script" not in page and 'href="http' not in page and 'src="http' not in page
    held = sum(claim["verdict"] == HELD for claim in found["claims"])
    assert f"{held} of the paper&rsquo;s claims held here" in page


class Log(Reporter):
    """Keeps the statuses and warnings, and asks to stop once the given text was said."""

    def __init__(self, until: str = ""):
        self.said, self.until = [], until

    def status(self, text):
        self.said.append(text)

    warning = status

    def cancelled(self):
        return bool(self.until) and any(self.until in text for text in self.said)


def test_a_reproduction_is_stopped_and_gone_on_with_and_extended(actor, tmp_path, monkeypatch):
    out = tmp_path / "a paper"
    before = sorted(path.relative_to(actor) for path in actor.rglob("*"))
    with pytest.raises(Cancelled):
        reproduce.reproduce(actor, out, ["base", "output"], report=Log("Run 2"), **SMALL)
    assert (out / "report.html").exists()
    assert read_json(out / "results.json")["runs"]["base"]["rmse_mm"] > 0

    trained, real = [], reproduce.train
    monkeypatch.setattr(reproduce, "train", lambda *args, **more: trained.append(
        (more["run"].name, more["resume"] is not None)) or real(*args, **more))
    found = reproduce.reproduce(actor, out, ["base", "output"])
    assert trained == [("frozen-output", True)]
    assert set(found["runs"]) == {"base", "frozen-output"} and found["measured"]["base"]["moved"]["not moved"] > 0
    assert found["runs"]["base"]["images"] == 16
    trained.clear()
    found = reproduce.reproduce(actor, out, ["base", "output", "components"])
    assert trained == [] and found["measured"]["components"]["mesh_dimensions"] == 1
    assert sorted(path.relative_to(actor) for path in actor.rglob("*")) == before  # the actor is only read
    with pytest.raises(UnderstudyError, match="begun with 1 for epochs, not 2"):
        reproduce.reproduce(actor, out, epochs=2.0)
    with pytest.raises(UnderstudyError, match="no part 'bases'; there are base, "):
        reproduce.reproduce(actor, out, ["bases"])


def test_what_cannot_be_trained_here_is_left_out_with_the_reason(actor, tmp_path, monkeypatch):
    def train(folder, config, run, **more):
        raise UnderstudyError("The landmarks are not installed.")

    monkeypatch.setattr(reproduce, "train", train)
    log = Log()
    found = reproduce.reproduce(actor, tmp_path / "out", ["fully-connected"], report=log, **SMALL)
    assert "fully-connected was left out: The landmarks are not installed." in log.said
    claims = [claim for claim in found["claims"] if claim["part"] == "fully-connected"]
    assert claims and all(claim["verdict"] == NOT_TESTED for claim in claims)
    assert any("landmarks" in claim["ours"] for claim in claims)
    with pytest.raises(UnderstudyError, match="landmarks"):
        reproduce.reproduce(actor, tmp_path / "out", ["base"])


def test_an_actor_without_validation_gets_a_sentence(actor, tmp_path):
    for path in actor.glob("shots/held out/*"):
        path.unlink()
    with pytest.raises(UnderstudyError, match="no cleaned validation shot"):
        reproduce.reproduce(actor, tmp_path / "out")


def test_a_speed_is_measured_one_by_one_and_in_batches(actor, tmp_path, small_model, monkeypatch):
    monkeypatch.setattr(measures, "SECONDS", 0.01)
    small_model().save(tmp_path / "model.safetensors")
    found = measures.speed(tmp_path / "model.safetensors", "cpu")
    assert found["online"] > 0 and found["batched"] > 0 and found["online_batch"] == 1 < found["batched_batch"]
