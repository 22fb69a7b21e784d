"""Every claim of the paper that can be measured, held against what a reproduction found: numbers in, words out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..core.metrics import STILL_MM, loss_to_rmse
from .variants import TRIED

HELD, NOT_HELD, NOT_TESTED = "held", "did not hold", "not tested"
SLIGHT = 0.1          # of the RMSE: what counts as "a slight margin", which the paper leaves open
UNMOVED = 1.25        # times the RMSE that pictures which are moved about may have to count as "not sensitive"
SAME = 0.01           # of the RMSE within which two ways to compute it agree


@dataclass(frozen=True)
class Claim:
    """where : in the paper.    says : the paper.    paper, ours : its figure and ours.    verdict : HELD, NOT_HELD or
    NOT_TESTED.    part : of variants.PARTS that measures it."""

    where: str
    says: str
    paper: str
    ours: str
    verdict: str
    part: str


def judge(results: dict) -> list[Claim]:
    """All claims, in the order of the paper. results : as `reproduce` keeps them in results.json."""
    found = _Findings(results)
    claims = []
    for rule in RULES:
        where, says, paper, part = rule.facts
        for item in rule(found):
            verdict, ours = item[:2]
            claims.append(Claim(where, item[2] if len(item) > 2 else says, paper, ours, verdict, part))
    return claims


class _Findings:
    """What was found, by name; None where it is absent."""

    def __init__(self, results: dict):
        self.runs, self.measured = results["runs"], results["measured"]
        self.converged = results["converged"]
        seeds = [rmse for name in self.runs if self.runs[name]["part"] == "base" and (rmse := self.rmse(name))]
        self.base = sum(seeds) / len(seeds) if seeds else None
        self.seeds = len(seeds)
        self.spread = max(seeds) - min(seeds) if len(seeds) > 1 else None

    def rmse(self, name: str) -> float | None:
        return self.runs.get(name, {}).get("rmse_mm")

    def value(self, name: str, key: str) -> float | None:
        return self.measured.get(name, {}).get(key)

    def missing(self, *names: str) -> str:
        """Why something is not there."""
        for name in names:
            run = self.runs.get(name, {})
            if reason := self.measured.get(name, {}).get("reason") or (run.get("state") == "failed" and run["text"]):
                return reason
        return "not run here"

    def against_base(self, name: str) -> tuple[float, str] | None:
        """How much worse than the base, mm, and that in words; None where it cannot be told."""
        if self.rmse(name) is None or self.base is None or self.spread is None:
            return None
        worse = self.rmse(name) - self.base
        words = (f"{self.rmse(name):.2f} mm, the base {self.base:.2f} mm; {self.seeds} seeds of it lie "
                 f"{self.spread:.2f} mm apart")
        return worse, words + (": no difference" if abs(worse) <= self.spread else "")


RULES: list[Callable] = []


def _rule(where: str, says: str, paper: str, part: str) -> Callable:
    def add(function: Callable) -> Callable:
        function.facts = (where, says, paper, part)
        RULES.append(function)
        return function

    return add


def _held(true: bool) -> str:
    return HELD if true else NOT_HELD


def _versus(found: _Findings, name: str, holds: Callable[[float, float], bool]) -> tuple[str, str]:
    """A claim about a variant; `holds` is told how much worse it is, and the spread."""
    told = found.against_base(name)
    if told is None:
        seeds = "one seed says nothing about differences" if found.rmse(name) and found.seeds == 1 else None
        return NOT_TESTED, seeds or found.missing(name)
    return _held(holds(told[0], found.spread)), told[1]


# ---- the network and its input (Sec. 3)


@_rule("Sec. 3.1", "160 components explain about 99.9 % of the variance of the meshes", "160 for 99.9 %", "components")
def _mesh_components(found: _Findings) -> Iterator[tuple]:
    share, needed = found.value("components", "mesh_share"), found.value("components", "mesh_dimensions")
    if share is None:
        yield NOT_TESTED, found.missing("components")
        return
    yield _held(share >= 0.9985), f"160 for {100 * share:.2f} %; {needed or 'more than 320'} for 99.9 %"


@_rule("Sec. 3.1", "a trainable output layer is better than one that is kept as the PCA gave it", "better", "output")
def _trainable(found: _Findings) -> Iterator[tuple]:
    yield _versus(found, "frozen-output", lambda worse, spread: worse > spread)


@_rule("Sec. 3.1", "one whitening for all pictures; with one for each, part of the benefit of a standard light is lost",
       "worse with each its own", "whitening")
def _whitening(found: _Findings) -> Iterator[tuple]:
    yield _versus(found, "whitened-each", lambda worse, spread: worse > spread)


# ---- training (Sec. 4)


@_rule("Sec. 4.1, 5.1", "trained with augmentation, the network is not sensitive to where the head is in the picture",
       "no stabilisation needed", "augmentation")
def _augmentation(found: _Findings) -> Iterator[tuple]:
    base, plain = found.value("base", "moved"), found.value("no-augmentation", "moved")
    if not base or not plain:
        yield NOT_TESTED, found.missing("base", "no-augmentation")
        return

    def worst(moved: dict) -> tuple[float, str]:
        still = moved["not moved"]
        name = max((name for name in moved if name != "not moved"), key=moved.get)
        return moved[name] / still, f"{still:.2f} mm, and {moved[name]:.2f} mm at worst ({name})"

    (ratio, with_it), (ratio_without, without) = worst(base), worst(plain)
    yield (_held(ratio <= UNMOVED and ratio < ratio_without),
           f"pictures as they are and moved: with it {with_it}; without {without}")


@_rule("Sec. 4.2, Fig. 4", "the ramp-down of learning rate and beta1 shows as a drop at the end", "visible", "base")
def _ramp_down(found: _Findings) -> Iterator[tuple]:
    run = found.converged
    if not run or len(run["validation"]) < 4:
        yield NOT_TESTED, "no run with enough validations"
        return
    begins = (1 - _number(run, "ramp_down", 0.15)) * run["images"]
    before = [rmse for images, rmse in run["validation"] if images <= begins]
    if len(before) < 2:
        yield NOT_TESTED, "no validation before the ramp-down"
        return
    last = run["validation"][-1][1]
    yield _held(last < min(before)), (f"{min(before):.2f} mm at best before it, {last:.2f} mm after it "
                                      f"({run['name']}, {run['images']:,.0f} frames shown)")


@_rule("Sec. 4.2", "200 epochs of 15,173 frames take 8 hours on a Titan X", "105 frames/s", "base")
def _training_speed(found: _Findings) -> Iterator[tuple]:
    run = found.runs.get("base")
    if not run or not run["seconds"]:
        yield NOT_TESTED, found.missing("base")
        return
    rate = run["images"] / run["seconds"]
    yield _held(rate >= 105), f"{rate:.0f} frames/s on this machine"


# ---- architectures (Sec. 5.1)


@_rule("Sec. 5.1", "other widths, or layers of stride 1 dropped or added, change the result only slightly",
       "a slight margin", "layers")
def _layers(found: _Findings) -> Iterator[tuple]:
    told = {name: found.rmse(name) for name in ("narrow", "wide", "shallow", "deep") if found.rmse(name)}
    if not told or found.spread is None:
        yield NOT_TESTED, found.missing("narrow")
        return
    off = {name: rmse / found.base - 1 for name, rmse in told.items()}
    words = ", ".join(f"{name} {rmse:.2f} mm ({100 * off[name]:+.0f} %)" for name, rmse in told.items())
    yield (_held(all(abs(value) <= SLIGHT for value in off.values())),
           f"base {found.base:.2f} mm; {words}; slight means within {100 * SLIGHT:.0f} %")
    better = [name for name, rmse in told.items() if rmse < found.base - found.spread]
    yield (_held(not better), f"better than the base by more than its seeds differ: {', '.join(better) or 'none'}",
           "the paper's network is slightly better than the others")


@_rule("Sec. 5.1, Fig. 5", "with stabilised pictures the fully connected network reaches a slightly smaller loss",
       "slightly below the dashed line", "fully-connected")
def _fully_connected(found: _Findings) -> Iterator[tuple]:
    steady, loose = found.rmse("fully-connected"), found.rmse("fully-connected-unstabilised")
    line = _dashed(found)
    if steady is None or line is None:
        yield NOT_TESTED, found.missing("fully-connected")
    else:
        yield _held(steady < line), f"{_loss(steady)} against {_loss(line)} of the converged convolutional network"
    says = "without stabilisation it is much worse"
    if steady is None or loose is None:
        yield NOT_TESTED, found.missing("fully-connected", "fully-connected-unstabilised"), says
    else:
        yield _held(loose > 1.1 * steady), f"{_loss(loose)} against {_loss(steady)}; much means by 10 %", says


@_rule("Sec. 5.1", "the fully connected network attenuates the motion", "visibly", "fully-connected")
def _attenuation(found: _Findings) -> Iterator[tuple]:
    name = "fully-connected" if found.value("fully-connected", "attenuation") else "fully-connected-unstabilised"
    label = "" if name == "fully-connected" else ", not stabilised"
    for key, says, words, digits in (
            ("attenuation", None, "of the motion kept", 0),
            ("noise_mm", "and is less stable over time than the convolutional network", "mm of temporal noise", 3)):
        other, own = found.value(name, key), _own(found, key)
        if other is None or own is None:
            yield NOT_TESTED, found.missing(name), says or _attenuation.facts[1]
            continue
        shown = [f"{100 * value:.0f} %" if not digits else f"{value:.{digits}f}" for value in (other, own)]
        yield (_held(other < own if key == "attenuation" else other > own),
               f"{shown[0]} {words}{label}, the convolutional network {shown[1]}", says or _attenuation.facts[1])


@_rule("Sec. 5.1", "the fully connected network trains in about an eighth of the time", "1 h against 8 to 10 h",
       "fully-connected")
def _fast(found: _Findings) -> Iterator[tuple]:
    names = [name for name in ("fully-connected", "fully-connected-unstabilised") if found.rmse(name)]
    base = found.runs.get("base")
    if not names or not base or not base["seconds"]:
        yield NOT_TESTED, found.missing("fully-connected")
        return
    run = found.runs[names[0]]
    ratio = run["images"] / max(run["seconds"], 1e-3) / (base["images"] / base["seconds"])
    yield _held(ratio >= 8), f"{ratio:.0f} times as many frames a second, not counting the PCA of the pictures"


@_rule("Sec. 5.1", "3000 components hold about 99.9 % of the variance of the pictures", "3000 for 99.9 %", "components")
def _picture_components(found: _Findings) -> Iterator[tuple]:
    pictures = found.value("components", "pictures")
    if pictures is None:
        yield NOT_TESTED, found.missing("components")
        return
    needed = found.value("components", "picture_dimensions")
    yield _held(needed is not None and needed <= 3000), (
        f"{needed} for 99.9 %, of {pictures:,} pictures at half their size" if needed
        else f"more than the {pictures:,} pictures that were looked at")


# ---- what was tried (Sec. 5.2)


@_rule("Sec. 5.2", "image noise as augmentation is detrimental", "worse", "rejected")
def _rejected(found: _Findings) -> Iterator[tuple]:
    wanted = {"noise": ("image noise as augmentation is detrimental", lambda worse, spread: worse > spread),
              "gamma": ("a variable gamma as augmentation is detrimental", lambda worse, spread: worse > spread),
              "perspective": ("small perspective transformations are not beneficial",
                              lambda worse, spread: worse >= -spread)}
    for name, (says, holds) in wanted.items():
        yield (*_versus(found, name, holds), f"{says} (here {TRIED[name]:g})")


# ---- numbers (Sec. 5, 5.3)


@_rule("Sec. 5", "the result is perfectly stable over time, without smoothing", "perfectly stable", "evaluation")
def _stability(found: _Findings) -> Iterator[tuple]:
    noise, target = (found.value("evaluation", name) for name in ("noise_mm", "target_noise_mm"))
    if noise is None:
        yield NOT_TESTED, found.missing("evaluation")
        return
    yield _held(noise <= max(target, STILL_MM)), (
        f"{noise:.3f} mm from frame to frame while the target is still, whose own is {target:.3f} mm; "
        f"{STILL_MM:g} mm counts as still")


@_rule("Sec. 5.3", "the final validation loss is 0.0028 cm2, an RMSE of 0.92 mm", "0.92 mm", "evaluation")
def _accuracy(found: _Findings) -> Iterator[tuple]:
    rmse = found.value("evaluation", "rmse_mm")
    if rmse is None:
        yield NOT_TESTED, found.missing("evaluation")
        return
    yield _held(rmse <= 0.92), f"{rmse:.2f} mm on {found.value('evaluation', 'frames'):,} validation frames"


@_rule("Sec. 5.3", "loss and RMSE agree: the loss is a mean over coordinates, the RMSE one over vertices",
       "0.0028 cm2 = 0.92 mm", "evaluation")
def _consistency(found: _Findings) -> Iterator[tuple]:
    rmse, trained = found.value("evaluation", "rmse_mm"), found.value("evaluation", "trained_rmse_mm")
    arithmetic = f"10 sqrt(3 x 0.0028) = {loss_to_rmse(0.0028, 10):.2f} mm"
    if rmse is None or trained is None:
        yield NOT_TESTED, f"{arithmetic}; {found.missing('evaluation')}"
        return
    yield _held(abs(rmse / trained - 1) <= SAME), (
        f"{arithmetic}; of one model {trained:.3f} mm by its loss, {rmse:.3f} mm by its solved vertices")


@_rule("Sec. 5.3", "longer training pushes the training loss down, and the validation loss no further", "towards zero",
       "base")
def _over_training(found: _Findings) -> Iterator[tuple]:
    run = found.converged
    begins = (1 - _number(run, "ramp_down", 0.15)) * run["images"] if run else 0
    early, late = ([[rmse for images, rmse in run[kind] if low <= images <= high] for kind in ("train", "validation")]
                   for low, high in ((0.2 * begins, 0.5 * begins), (0.7 * begins, begins))) if run else ((), ())
    if not run or not all(len(part) > 1 for part in (*early, *late)):
        yield NOT_TESTED, "no run with enough validations before the ramp-down"
        return
    train, validation = (1 - (_mean(late[i]) / _mean(early[i])) ** 2 for i in (0, 1))
    yield _held(train > 0.2 and validation < 0.05), (
        f"from the first to the last third before the ramp-down of {run['name']} the training loss fell by "
        f"{100 * train:.0f} %, the validation loss by {100 * validation:.0f} %")


@_rule("Sec. 5.3, Fig. 7", "the marked frames err more than the average", "0.92 mm and above", "evaluation")
def _marked(found: _Findings) -> Iterator[tuple]:
    rmse, marked = found.value("evaluation", "rmse_mm"), found.value("evaluation", "marked")
    if not marked:
        yield NOT_TESTED, found.missing("evaluation")
        return
    yield _held(min(marked) > rmse), (f"the worst of each shot {', '.join(f'{value:.2f}' for value in marked)} mm, all "
                                      f"together {rmse:.2f} mm")


# ---- others (Sec. 5.4, 5.5)


@_rule("Sec. 5.4, Fig. 8", "more accurate than monocular methods that know nobody", "visually", "peer")
def _peer(found: _Findings) -> Iterator[tuple]:
    other, own = found.value("peer", "rmse_mm"), found.value("peer", "own_rmse_mm")
    if other is None or own is None:
        yield NOT_TESTED, found.missing("peer")
        return
    yield _held(own < other), f"{own:.2f} mm, {found.measured['peer'].get('name', 'the peer')} {other:.2f} mm"


@_rule("Sec. 5.5, Table 1", "287 frames a second one by one", "287", "speed")
def _speed(found: _Findings) -> Iterator[tuple]:
    online, batched = found.value("speed", "online"), found.value("speed", "batched")
    if online is None or batched is None:
        for says in (None, "870 in batches", "ten times as fast as the methods it is compared with"):
            yield NOT_TESTED, found.missing("speed"), says or _speed.facts[1]
        return
    engine = f"batches of {found.value('speed', 'batched_batch')}, {found.value('speed', 'batched_engine')}"
    yield _held(online >= 287), f"{online:.0f} ({found.value('speed', 'online_engine')})"
    yield _held(batched >= 870), f"{batched:.0f} ({engine})", "870 in batches"
    yield _held(online >= 280), f"{online:.0f} against their 28", "ten times as fast as the methods it is compared with"


@_rule("Sec. 3", "a higher resolution than 240 x 320 does not help", "no better", "")
def _untested(found: _Findings) -> Iterator[tuple]:
    yield NOT_TESTED, "the size of the input is fixed"
    for says, why in (
            ("moving the pictures about while training does not help the fully connected network", "not built"),
            ("the fully connected network is worse on raw pixels than on components", "not built"),
            ("target errors of artists are averaged away", "needs real labels with known errors; see the label audit"),
            ("a lower loss need not look better", "takes artists to judge")):
        yield NOT_TESTED, why, says


def _number(run: dict, name: str, default: float) -> float:
    return run.get("config", {}).get(name, default)


def _own(found: _Findings, key: str) -> float | None:
    """A figure of the converged convolutional network, or of the base."""
    value = found.value("evaluation", key)
    return found.value("base", key) if value is None else value


def _dashed(found: _Findings) -> float | None:
    """RMSE in mm of the converged convolutional network: the dashed line of Figure 5."""
    rmse = found.value("evaluation", "rmse_mm")
    return found.rmse("base") if rmse is None else rmse


def _loss(rmse: float) -> str:
    """A loss in cm2 of an RMSE in mm, and both in words."""
    return f"{(rmse / 10) ** 2 / 3:.4f} cm2 ({rmse:.2f} mm)"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
