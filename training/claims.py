"""Every claim of the paper that can be measured, held against what a reproduction found: numbers in, words out."""

from collections.abc import Callable
from dataclasses import dataclass

from ..core.metrics import STILL_MM, loss_to_rmse
from .variants import PAPER_EPOCHS, TRIED

HELD, NOT_HELD, NOT_TESTED = "held", "did not hold", "not tested"
SLIGHT = 0.1          # of the RMSE: what counts as "a slight margin" and, beyond it, as "much"; the paper does not say
UNMOVED = 1.25        # times the RMSE that pictures which are moved about may have to count as "not sensitive"
SAME = 0.01           # of the RMSE within which two ways to compute it agree
NETWORKS = ("narrow", "wide", "shallow", "deep")
STEADY, LOOSE = "fully-connected", "fully-connected-unstabilised"
JITTERED = "fully-connected-jittered"
Verdict = tuple[str, str]  # a verdict, and our figure in words


@dataclass(frozen=True)
class Claim:
    """where : in the paper.    says : the paper.    paper, ours : its figure and ours.    verdict : HELD, NOT_HELD or
    NOT_TESTED.    part : of variants.PARTS that measures it; empty if none does."""

    where: str
    says: str
    paper: str
    verdict: str
    ours: str
    part: str = ""


def judge(results: dict) -> list[Claim]:
    """All claims, in the order of the paper. results : as `reproduce` keeps them in results.json."""
    found = Findings(results)
    return [claim for claims in (_network, _training, _architectures, _tried, _numbers, _others)
            for claim in claims(found)]


class Findings:
    """What was found, by name; None where it is absent."""

    def __init__(self, results: dict):
        self.runs, self.measured, self.converged = results["runs"], results["measured"], results["converged"]
        self.epochs = self.converged["images"] / results["settings"]["frames"] if self.converged else 0.0
        seeds = [rmse for name in self.runs if self.runs[name]["part"] == "base" and (rmse := self.rmse(name))]
        self.seeds = len(seeds)
        self.base = sum(seeds) / len(seeds) if seeds else None
        self.spread = max(seeds) - min(seeds) if len(seeds) > 1 else None

    def rmse(self, name: str) -> float | None:
        return self.runs.get(name, {}).get("rmse_mm")

    def value(self, name: str, key: str):
        return self.measured.get(name, {}).get(key)

    def speed(self, name: str) -> float | None:
        """Training frames a second."""
        run = self.runs.get(name)
        return run["images"] / run["seconds"] if run and run["seconds"] else None

    def untested(self, *names: str) -> Verdict:
        """Why something is not there."""
        for name in names:
            run = self.runs.get(name, {})
            if reason := self.value(name, "reason") or (run.get("state") == "failed" and run["text"]):
                return NOT_TESTED, reason
        return NOT_TESTED, "not run here"

    def against_base(self, name: str, holds: Callable[[float, float], bool]) -> Verdict:
        """A claim about a run; `holds` is told how much worse than the base it is, mm, and how far seeds lie apart."""
        rmse = self.rmse(name)
        if rmse is None or self.base is None:
            return self.untested(name)
        if self.spread is None:
            return NOT_TESTED, "one seed of the base says nothing about differences"
        worse = rmse - self.base
        return _held(holds(worse, self.spread)), (
            f"{rmse:.2f} mm, the base {self.base:.2f} mm, its {self.seeds} seeds {self.spread:.2f} mm apart"
            + (": no difference" if abs(worse) <= self.spread else ""))


def _held(true: bool) -> str:
    return HELD if true else NOT_HELD


def _network(found: Findings) -> list[Claim]:
    """Sec. 3."""
    share, needed = found.value("components", "mesh_share"), found.value("components", "mesh_dimensions")
    meshes = found.untested("components") if share is None else (
        _held(share >= 0.9985), f"160 for {100 * share:.2f} %; {needed or 'more than 320'} for 99.9 %")
    return [
        Claim("Sec. 3", "a higher resolution than 240 x 320 does not help", "no better", NOT_TESTED,
              "the size of the input is fixed"),
        Claim("Sec. 3.1", "160 components explain about 99.9 % of the variance of the meshes", "160 for 99.9 %",
              *meshes, "components"),
        Claim("Sec. 3.1", "a trainable output layer is better than one that is kept as the PCA gave it",
              "frozen is worse", *found.against_base("frozen-output", lambda worse, spread: worse > spread), "output"),
        Claim("Sec. 3.1", "whitening every picture by itself loses part of the benefit of a standard light",
              "each is worse", *found.against_base("whitened-each", lambda worse, spread: worse > spread), "whitening")]


def _training(found: Findings) -> list[Claim]:
    """Sec. 4."""
    rate = found.speed("base")
    speed = found.untested("base") if rate is None else (_held(rate >= 105), f"{rate:.0f} frames/s on this machine")
    return [
        Claim("Sec. 4.1, 5.1", "trained with augmentation, the network is not sensitive to where the head is and how "
              "bright the picture", "needs no stabilisation", *_augmentation(found), "augmentation"),
        Claim("Sec. 4.2", "200 epochs of 15,173 frames in 8 hours", "105 frames/s on a Titan X", *speed, "base"),
        Claim("Sec. 4.2, Fig. 4", "the ramp-down of learning rate and beta1 shows as a drop at the end", "visible",
              *_ramp_down(found), "base")]


def _augmentation(found: Findings) -> Verdict:
    base, plain = found.value("base", "moved"), found.value("no-augmentation", "moved")
    if not base or not plain:
        return found.untested("base", "no-augmentation")

    def worst(moved: dict) -> tuple[float, str]:
        still = moved["not moved"]
        name = max((name for name in moved if name != "not moved"), key=moved.get)
        return moved[name] / still, f"{still:.2f} mm, and at worst {moved[name]:.2f} mm ({name})"

    (ratio, with_it), (ratio_without, without) = worst(base), worst(plain)
    return _held(ratio <= UNMOVED and ratio < ratio_without), (
        f"as the pictures are, and moved or lit otherwise: with it {with_it}; without {without}; "
        f"not sensitive means {UNMOVED:g} times at most")


def _ramp_down(found: Findings) -> Verdict:
    before, after = _around_ramp_down(found.converged, "validation")
    if len(before) < 2 or not after:
        return NOT_TESTED, "no run with enough validations"
    return _held(after[-1] < min(before)), (f"{min(before):.2f} mm at best before it, {after[-1]:.2f} mm at its end, "
                                            f"in the run {found.converged['name']}")


def _around_ramp_down(run: dict | None, kind: str) -> tuple[list[float], list[float]]:
    """RMSE in mm of a run's curve before the ramp-down and from it on."""
    if not run:
        return [], []
    begins = (1 - run["config"].get("ramp_down", 0.15)) * run["images"]
    return tuple([rmse for images, rmse in run[kind] if (images > begins) == late] for late in (False, True))


def _architectures(found: Findings) -> list[Claim]:
    """Sec. 5.1."""
    pictures, needed = found.value("components", "pictures"), found.value("components", "picture_dimensions")
    share = found.untested("components") if pictures is None else (
        _held(needed is not None and needed <= 3000),
        f"{needed or 'more'} for 99.9 %, of {pictures:,} pictures at half their size")
    part, fully = "fully-connected", "Sec. 5.1, Fig. 5"
    return [
        *_networks(found),
        Claim("Sec. 5.1", "3000 components hold about 99.9 % of the variance of the pictures", "3000 for 99.9 %",
              *share, "components"),
        Claim(fully, "the fully connected network, its pictures stabilised, reaches a slightly smaller validation loss",
              "just below the dashed line", *_steady(found), part),
        Claim(fully, "without stabilisation it is much worse", "far above the line", *_loose(found), part),
        Claim("Sec. 5.1", "the fully connected network attenuates the motion", "visibly", *_motion(
            found, "attenuation", "{:.0%} of the motion kept", lambda other, own: other < own), part),
        Claim("Sec. 5.1", "the fully connected network is less stable over time", "visibly", *_motion(
            found, "noise_mm", "{:.3f} mm of temporal noise", lambda other, own: other > own), part),
        Claim("Sec. 5.1", "the fully connected network trains in about an eighth of the time", "1 h, not 8 to 10 h",
              *_eighth(found), part),
        Claim("Sec. 5.1", "moving its pictures a little while training does not help the fully connected network",
              "no help", *_jitter(found), "jitter"),
        Claim("Sec. 5.1", "the fully connected network is worse on raw pixels than on components", "worse", NOT_TESTED,
              "not built")]


def _networks(found: Findings) -> list[Claim]:
    rmse = {name: found.rmse(name) for name in NETWORKS if found.rmse(name)}
    slight = best = found.untested(*NETWORKS)
    if rmse and found.spread is not None:
        off = {name: value / found.base - 1 for name, value in rmse.items()}
        words = ", ".join(f"{name} {value:.2f} ({100 * off[name]:+.0f} %)" for name, value in rmse.items())
        slight = (_held(all(abs(value) <= SLIGHT for value in off.values())),
                  f"base {found.base:.2f} mm, {words}; slight means within {100 * SLIGHT:.0f} %")
        better = [name for name, value in rmse.items() if value < found.base - found.spread]
        best = (_held(not better), f"better by more than the {found.spread:.2f} mm that its seeds lie apart: "
                                   f"{', '.join(better) or 'none'}")
    return [Claim("Sec. 5.1", "other widths, or layers of stride 1 dropped or added, change the result only slightly",
                  "a slight margin", *slight, "layers"),
            Claim("Sec. 5.1", "the paper's network is slightly better than these", "the best", *best, "layers")]


def _steady(found: Findings) -> Verdict:
    own, line = found.rmse(STEADY), dashed(found)
    if own is None or line is None:
        return found.untested(STEADY)
    return _held(own < line), f"{_loss(own)}, the converged convolutional network {_loss(line)}"


def _loose(found: Findings) -> Verdict:
    own, steady = found.rmse(LOOSE), found.rmse(STEADY)
    if own is None or steady is None:
        return found.untested(STEADY, LOOSE)
    return _held(own > (1 + SLIGHT) * steady), f"{_loss(own)}, with it {_loss(steady)}"


def _jitter(found: Findings) -> Verdict:
    own, steady = found.rmse(JITTERED), found.rmse(STEADY)
    if own is None or steady is None or found.spread is None:
        return found.untested(JITTERED)
    return _held(own >= steady - found.spread), f"{own:.2f} mm, without {steady:.2f} mm"


def _motion(found: Findings, key: str, form: str, holds: Callable[[float, float], bool]) -> Verdict:
    """The fully connected network beside the converged convolutional one."""
    name = STEADY if found.value(STEADY, key) is not None else LOOSE
    other, own = found.value(name, key), found.value("evaluation", key)
    own = found.value("base", key) if own is None else own
    if other is None or own is None:
        return found.untested(STEADY)
    label = "" if name == STEADY else " (pictures not stabilised)"
    return _held(holds(other, own)), f"{form.format(other)}{label}, the convolutional network {form.format(own)}"


def _eighth(found: Findings) -> Verdict:
    own, base = found.speed(STEADY) or found.speed(LOOSE), found.speed("base")
    if own is None or base is None:
        return found.untested(STEADY)
    return _held(own >= 8 * base), f"{own / base:.0f} times as many frames a second, not counting the components"


def _tried(found: Findings) -> list[Claim]:
    """Sec. 5.2."""
    part = "rejected"
    return [
        Claim("Sec. 5.2", f"image noise as augmentation is detrimental (here {TRIED['noise']:g})", "worse",
              *found.against_base("noise", lambda worse, spread: worse > spread), part),
        Claim("Sec. 5.2", f"a variable gamma as augmentation is detrimental (here {TRIED['gamma']:g})", "worse",
              *found.against_base("gamma", lambda worse, spread: worse > spread), part),
        Claim("Sec. 5.2", f"small perspective transformations are not beneficial (here {TRIED['perspective']:g})",
              "no better", *found.against_base("perspective", lambda worse, spread: worse >= -spread), part)]


def _numbers(found: Findings) -> list[Claim]:
    """Sec. 5 and 5.3."""
    noise, target = found.value("evaluation", "noise_mm"), found.value("evaluation", "target_noise_mm")
    rmse, trained = found.value("evaluation", "rmse_mm"), found.value("evaluation", "trained_rmse_mm")
    marked = found.value("evaluation", "marked")
    stable = accurate = agree = above = found.untested("evaluation")
    if noise is not None:
        stable = _held(noise <= max(target, STILL_MM)), (
            f"{noise:.3f} mm from frame to frame while the target is still, whose own is {target:.3f} mm; "
            f"{STILL_MM:g} mm counts as still")
    if rmse is not None:
        accurate = _held(rmse <= 0.92), f"{rmse:.2f} mm on {found.value('evaluation', 'frames'):,} validation frames"
        above = _held(sum(marked) / len(marked) > rmse), (
            f"the worst of each shot {', '.join(f'{value:.2f}' for value in marked)} mm, all together {rmse:.2f} mm")
    if rmse is not None and trained is not None:
        agree = _held(abs(rmse / trained - 1) <= SAME), (
            f"10 sqrt(3 x 0.0028) = {loss_to_rmse(0.0028, 10):.2f}; of the model {trained:.3f} mm by its loss, "
            f"{rmse:.3f} mm by its solved vertices")
    return [
        Claim("Sec. 5", "perfectly stable over time, without smoothing", "perfectly stable", *stable, "evaluation"),
        Claim("Sec. 5.3", "the final validation loss is 0.0028 cm2, an RMSE of 0.92 mm", "0.92 mm", *accurate,
              "evaluation"),
        Claim("Sec. 5.3", "loss and RMSE agree: one is a mean over coordinates, the other over vertices",
              "0.0028 cm2 is 0.92 mm", *agree, "evaluation"),
        Claim("Sec. 5.3", "longer training pushes the training loss towards zero, and the validation loss no further",
              "no better", *_over_training(found), "base"),
        Claim("Sec. 5.3, Fig. 7", "the marked frames err more than the average", "above 0.92 mm", *above, "evaluation"),
        Claim("Sec. 5.3", "errors that artists make now and then are averaged away", "seen at hairline and brows",
              NOT_TESTED, "takes labels whose errors are known"),
        Claim("Sec. 5.6", "a lower loss need not look better", "lips and eyes", NOT_TESTED, "takes artists to judge")]


def _over_training(found: Findings) -> Verdict:
    """The second against the last quarter of what lies before the ramp-down."""
    curves = [_around_ramp_down(found.converged, kind)[0] for kind in ("train", "validation")]
    quarters = [(curve[len(curve) // 4:len(curve) // 2], curve[3 * len(curve) // 4:]) for curve in curves]
    if not all(early and late for early, late in quarters):
        return NOT_TESTED, "no run with enough validations before the ramp-down"
    train, validation = (1 - (sum(late) / len(late)) ** 2 / (sum(early) / len(early)) ** 2 for early, late in quarters)
    short = validation >= 0.05 and found.epochs < PAPER_EPOCHS  # then it cannot be told yet
    return NOT_TESTED if short else _held(train > 0.2 and validation < 0.05), (
        f"{'too short: ' * short}from the second to the last quarter before the ramp-down of the run "
        f"{found.converged['name']} the training loss fell by {train:.0%}, the validation loss by {validation:.0%}")


def _others(found: Findings) -> list[Claim]:
    """Sec. 5.4 and 5.5."""
    other, own = found.value("peer", "rmse_mm"), found.value("peer", "own_rmse_mm")
    online, batched = found.value("speed", "online"), found.value("speed", "batched")
    peer = found.untested("peer") if other is None else (
        _held(own < other), f"{own:.2f} mm, {found.value('peer', 'name')} {other:.2f} mm")
    one = many = ten = found.untested("speed")
    if online is not None:
        one = _held(online >= 287), f"{online:.0f} ({found.value('speed', 'online_engine')})"
        many = _held(batched >= 870), (f"{batched:.0f} (batches of {found.value('speed', 'batched_batch')}, "
                                       f"{found.value('speed', 'batched_engine')})")
        ten = _held(online >= 280), f"{online:.0f} against their 28"
    table = "Sec. 5.5, Table 1"
    return [
        Claim("Sec. 5.4, Fig. 8", "more accurate than monocular methods that are made for anybody", "visibly", *peer,
              "peer"),
        Claim(table, "287 frames a second one by one", "287", *one, "speed"),
        Claim(table, "870 frames a second in batches", "870, in 200", *many, "speed"),
        Claim(table, "ten times as fast as the methods it is compared with", "287 against 28", *ten, "speed")]


def dashed(found: Findings) -> float | None:
    """RMSE in mm of the converged convolutional network: the dashed line of Figure 5."""
    rmse = found.value("evaluation", "rmse_mm")
    return found.rmse("base") if rmse is None else rmse


def _loss(rmse: float) -> str:
    """An RMSE in mm, as a loss in cm2 too."""
    return f"{(rmse / 10) ** 2 / 3:.4f} cm2 ({rmse:.2f} mm)"
