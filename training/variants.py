"""What a reproduction of the paper trains: the base several times, and once with each thing that the paper compares."""

import dataclasses
from dataclasses import dataclass, field

from .config import Config

PAPER_EPOCHS = 200.0
PARTS = {  # what can be asked for by name, in this order
    "base": "the paper's network, with several seeds",
    "output": "the output layer trainable or frozen",
    "layers": "layers dropped or added, other widths",
    "augmentation": "no augmentation at all",
    "rejected": "the augmentations that the paper rejected",
    "whitening": "every picture whitened by itself",
    "fully-connected": "the fully connected network, stabilised or not",
    "jitter": "the fully connected network, its pictures moved a little while training",
    "evaluation": "the actor's model on the validation shots",
    "components": "how many dimensions meshes and pictures have",
    "speed": "frames solved in a second",
    "peer": "the monocular peer",
}
UNMOVED = {"translation": 0.0, "rotation": 0.0, "zoom": 0.0, "brightness": 0.0, "contrast": 0.0}
JITTER = {"translation": 2.0, "rotation": 1.0}  # about what stabilising leaves
TRIED = {"noise": 0.15, "gamma": 0.3, "perspective": 0.06}  # the paper gives no magnitudes; these can be seen


@dataclass(frozen=True)
class Variant:
    """One training run.

    changes : of the base's Config.    longer : times the frames that the base is shown, up to the paper's 200 epochs.
    solves : how its model solves is measured too.    moved : also on pictures that are moved about.
    needed : nothing goes without it.
    """

    name: str
    part: str
    what: str
    changes: dict = field(default_factory=dict)
    longer: float = 1.0
    solves: bool = False
    moved: bool = False
    needed: bool = False

    def config(self, base: Config) -> Config:
        """The configuration of this run."""
        epochs = max(base.epochs, min(PAPER_EPOCHS, base.epochs * self.longer))
        changes = dict(self.changes)
        base = base.of(changes.pop("architecture", base.architecture))  # which may be one that nothing is moved for
        return dataclasses.replace(base, epochs=epochs, **changes)


def plan(seeds: int) -> list[Variant]:
    """All runs, in the order in which they are made: what most depends on comes first."""
    more = [Variant(f"base-{seed}", "base", f"the same with seed {seed}", {"seed": seed}) for seed in range(1, seeds)]
    networks = {"narrow": "half as many channels", "shallow": "without the layers of stride 1",
                "wide": "one and a half times as many channels", "deep": "with two layers of stride 1 in every pair"}
    return [
        Variant("base", "base", "the paper's network and augmentation", solves=True, moved=True, needed=True),
        *more,
        Variant("frozen-output", "output", "the output layer kept as the PCA gave it", {"freeze_output": True}),
        Variant("no-augmentation", "augmentation", "without any augmentation", UNMOVED, solves=True,
                moved=True),
        *(Variant(name, "rejected", f"with {name} of {value:g}", {name: value}) for name, value in TRIED.items()),
        Variant("whitened-each", "whitening", "every picture whitened by itself",
                {"architecture": "convolutional-whitened-each"}),
        *(Variant(name, "layers", what, {"architecture": f"convolutional-{name}"}) for name, what in networks.items()),
        # It trains in an eighth of the time (Sec. 5.1), and is meant to converge.
        Variant("fully-connected", "fully-connected", "fully connected, pictures stabilised",
                {"architecture": "fully-connected"}, longer=20, solves=True),
        Variant("fully-connected-unstabilised", "fully-connected", "fully connected, pictures as they are",
                {"architecture": "fully-connected-unstabilised"}, longer=20, solves=True),
        Variant("fully-connected-jittered", "jitter", "fully connected, stabilised pictures moved a little",
                {"architecture": "fully-connected", **JITTER}, longer=20),
    ]


def base_config(epochs: float, batch: int | None) -> Config:
    """The base: the paper's schedule from 100 epochs on, below that with longer ramps and, for more steps, a smaller
    batch; some ten validations along the way."""
    config = Config.preset("paper" if epochs >= PAPER_EPOCHS / 2 else "quick")
    return dataclasses.replace(config, epochs=epochs, batch=batch or (50 if epochs >= PAPER_EPOCHS / 2 else 16))
