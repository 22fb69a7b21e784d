"""Every hyper-parameter of a training run in one frozen dataclass, with where its value comes from."""

import dataclasses
from dataclasses import dataclass

from ..core.architectures import CONVOLUTIONAL, PAPER, check_architecture
from ..core.errors import UnderstudyError


@dataclass(frozen=True)
class Config:
    """A training run. Numbers without a source are the paper's (Sec. 4.1, 4.2).

    The schedule is written in fractions of the run, so that the same curve stretches over any number of epochs or
    minutes; for 200 epochs the defaults are the paper's 1, 5 and 30 epochs.
    """

    epochs: float = 200.0           # every training frame is shown this often. Ignored when minutes is set.
    minutes: float | None = None    # run for this long instead. None = count epochs.
    batch: int = 50                 # frames a step
    architecture: str = PAPER       # of core/architectures.py
    components: int = 160           # width of the layer before the output; fewer when there are fewer frames
    freeze_output: bool = False     # True = regress the PCA coefficients, never training the output layer
    learning_rate: float = 1e-3     # peak, the one that Adam's authors recommend
    ramp_up: float = 1 / 200        # geometric progression from learning_rate * ramp_start
    ramp_start: float = 0.01
    ramp_down: float = 30 / 200     # half a cosine to zero, and beta1 to beta1_end along the same curve
    beta1: float = 0.9
    beta1_end: float = 0.5
    beta2: float = 0.999
    epsilon: float = 1e-8
    augment_ramp: float = 5 / 200   # strength of every augmentation grows linearly from zero; 0 = full at once
    translation: float = 14.0       # input pixels, each axis, either way
    rotation: float = 4.0           # degrees, either way
    zoom: float = 0.08              # either way, as a ratio
    brightness: float = 0.3         # of the training pictures' standard deviation, either way
    contrast: float = 0.2           # either way, as a ratio
    # The paper tried and rejected the next three (Sec. 5.2); 0 = off.
    noise: float = 0.0              # deviation of image noise, of the training pictures' standard deviation
    gamma: float = 0.0              # exponent of the gray levels, either way, as a ratio
    perspective: float = 0.0        # change of scale at the input's edges, either way, as a ratio
    new_share: float = 0.4          # of a batch that a trained model has not learned from, while there are such frames
    # Beyond the paper's loss, in training/losses.py; 0 and False = off.
    painted: bool = False           # vertices count as the actor's painted weights say
    velocity: float = 0.0           # weight of the error's change from a frame to the next
    gaps: float = 0.0               # weight of the error of what lies between the lips and between the lids
    seed: int = 0
    validation_frames: int = 400    # frames of the regular validations; the last one takes all
    checkpoint_seconds: float = 60  # what a crash can cost

    def __post_init__(self):
        if not (self.epochs > 0 and self.batch >= 1 and self.components >= 1 and self.learning_rate > 0):
            raise UnderstudyError("Epochs, batch, components and learning rate must be greater than zero.")
        if not 0 <= self.new_share <= 1:
            raise UnderstudyError("The share of new frames must be between 0 and 1.")
        check_architecture(self.architecture)
        if not (self.velocity >= 0 and self.gaps >= 0):
            raise UnderstudyError("The weights of velocity and gaps must be zero or more.")
        if not (self.noise >= 0 and self.gamma >= 0 and 0 <= self.perspective <= 0.25):
            raise UnderstudyError("Noise and gamma must be zero or more, perspective between 0 and 0.25.")
        if self.minutes is not None and not self.minutes > 0:
            raise UnderstudyError("The time budget must be longer than zero minutes.")

    @classmethod
    def preset(cls, name: str) -> "Config":
        """The configuration called `paper`, `quick` or `smoke`. Raises UnderstudyError for another name."""
        if name not in PRESETS:
            raise UnderstudyError(f"There is no preset {name!r}; there are {', '.join(PRESETS)}.")
        return cls(**PRESETS[name])

    @property
    def augments(self) -> bool:
        """Whether training shows a picture in more ways than one."""
        return any((self.translation, self.rotation, self.zoom, self.brightness, self.contrast, self.noise, self.gamma,
                    self.perspective))

    def of(self, architecture: str) -> "Config":
        """The same for another architecture. A fully connected network learns from pictures as they are: moving them
        did not help it (Sec. 5.1).
        """
        plain = {} if architecture in CONVOLUTIONAL else AS_THEY_ARE
        return dataclasses.replace(self, architecture=architecture, **plain)

    def fine_tuning(self) -> "Config":
        """The same length with the schedule for a model that has been trained."""
        return dataclasses.replace(self, **FINE_TUNING)

    @classmethod
    def from_json(cls, values: dict) -> "Config":
        """A configuration as `to_json` wrote it. Raises UnderstudyError for unknown names and values of other types."""
        fields = {field.name: field for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - set(fields))
        if unknown:
            raise UnderstudyError(f"The training configuration has the unknown entry {unknown[0]!r}.")
        for name, value in values.items():
            wanted = str if name == "architecture" else (int, float, bool)
            if not isinstance(value, wanted) and not (name == "minutes" and value is None):
                raise UnderstudyError(f"The training configuration's {name} should be a "
                                      f"{'name' if wanted is str else 'number'}, not {value!r}.")
        return cls(**values)

    def to_json(self) -> dict:
        return dataclasses.asdict(self)


PRESETS = {
    "paper": {},
    "quick": {"epochs": 15.0, "ramp_up": 0.03, "augment_ramp": 0.1, "ramp_down": 0.4},
    "smoke": {"epochs": 1.0, "ramp_up": 0.1, "augment_ramp": 0.1, "ramp_down": 0.4, "validation_frames": 50},
}

AS_THEY_ARE = dict.fromkeys(("translation", "rotation", "zoom", "brightness", "contrast"), 0.0)
# Not in the paper. No large steps: they would first spoil what the model knows. The short ramp-up is there for Adam,
# whose moments begin anew; augmentation is what the model is used to.
FINE_TUNING = {"learning_rate": 5e-4, "ramp_up": 0.05, "ramp_down": 0.7, "augment_ramp": 0.0}
