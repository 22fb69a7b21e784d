"""The model file: all that solving a video needs, in one safetensors file that cannot run code (DESIGN.md 3)."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from .architectures import ARCHITECTURES
from .crop import Crop
from .errors import UnderstudyError
from .familiarity import Familiarity
from .files import atomic
from .modelfile import FORMAT, ModelFile
from .network import DROPOUT, FullyConnected, Network, make_network
from .topology import Mesh


@dataclass
class Model:
    """A trained actor.

    unit : metres per mesh unit.    animated, stabiliser : vertex indices, int32.    regions : name -> vertex indices.
    whitening : mean and standard deviation of gray levels over the training inputs.
    mean : (A, 3) and basis : (K, A, 3) float32, the PCA that the output layer started from.
    reference : (320, 240) uint8, the mean training input, to compare the framing of footage with; None in old files.
    confidence : what `confidence_weights` gives, as the file has it; None in a model that was not read from one.
    learned : (n,) int64, fingerprints of the frames that it was trained on (training/replay.py); None in old files.
    familiarity : what it knows of its training footage (core/familiarity.py); None until training ends.
    about : what else the metadata says: training configuration, data hashes, validation RMSE.
    """

    actor: str
    unit: float
    crop: Crop
    transfer: str
    template: Mesh
    animated: np.ndarray
    stabiliser: np.ndarray
    regions: dict[str, np.ndarray]
    whitening: tuple[float, float]
    mean: np.ndarray
    basis: np.ndarray
    network: Network | FullyConnected
    about: dict = field(default_factory=dict)
    reference: np.ndarray | None = None
    confidence: np.ndarray | None = None
    learned: np.ndarray | None = None
    familiarity: Familiarity | None = None

    @property
    def topology(self) -> str:
        return self.template.hash

    @property
    def centimetres(self) -> float:
        """Centimetres per mesh unit: the network works in centimetres, as the paper's did, whatever the mesh's unit."""
        return 100 * self.unit

    @property
    def millimetres(self) -> float:
        """Millimetres per mesh unit."""
        return 1000 * self.unit

    def save(self, path: Path | str) -> None:
        """Write the model file atomically."""
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.network.state_dict().items()}
        if "image_basis" in tensors:  # most of such a file; `new_model` has rounded it, so nothing is lost
            tensors["image_basis"] = tensors["image_basis"].half()
        arrays = {
            "whitening": np.array(self.whitening, np.float64), "pca.mean": self.mean, "pca.basis": self.basis,
            "template.vertices": self.template.vertices, "template.face_sizes": self.template.face_sizes,
            "template.face_indices": self.template.face_indices,
            "mask.animated": self.animated, "mask.stabiliser": self.stabiliser,
            "confidence": confidence_weights(self.network, self.animated, self.regions),
            **{f"region.{name}": value for name, value in self.regions.items()},
            **{name: value for name in ("reference", "learned") if (value := getattr(self, name)) is not None},
            **({} if self.familiarity is None else self.familiarity.arrays()),
        }
        tensors.update({name: torch.from_numpy(np.array(value, order="C")) for name, value in arrays.items()})
        crop = self.crop
        about = {"format": FORMAT, "actor": self.actor, "topology": self.topology, "unit": self.unit,
                 "crop": [crop.x, crop.y, crop.width, crop.height], "transfer": self.transfer,
                 "architecture": {"name": self.network.architecture, "components": len(self.basis)}, **self.about}
        if self.familiarity is not None:
            about["expected"] = self.familiarity.expected
        write_tensors(path, tensors, about)


def write_tensors(path: Path | str, tensors: dict[str, torch.Tensor], about: dict) -> None:
    """Write tensors and their metadata to a safetensors file, atomically."""
    content = save(tensors, {"understudy": json.dumps(about, ensure_ascii=False)})
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def confidence_weights(network: Network | FullyConnected, animated: np.ndarray,
                       regions: dict[str, np.ndarray]) -> np.ndarray:
    """Weights w with spread^2 = sum over features x_i^2 w_i, (features, 1 + regions) float32, cm2.

    Behind the last dropout layer everything is linear, so the mean variance of a vertex that dropout would cause needs
    no sampling: p / (1 - p) times the squared length of each feature's effect. Column 0 is all animated vertices, the
    others are the regions in order of name. The first dropout of a fully connected network, behind which there is a
    tanh, is not in it.
    """
    effect = network.output.weight.detach().double().cpu().reshape(len(animated), 3, -1)
    fc = network.fc.weight.detach().double().cpu()
    columns = []
    for vertices in [animated] + [regions[name] for name in sorted(regions)]:
        rows = effect[np.isin(animated, vertices)].flatten(0, 1)
        gram = rows.T @ rows / max(1, len(rows) // 3)
        columns.append((fc * (gram @ fc)).sum(0) * DROPOUT / (1 - DROPOUT))
    return torch.stack(columns, 1).float().numpy()


def load_model(path: Path | str) -> Model:
    """Read and validate a model file. Raises UnderstudyError, in a sentence, for anything that is not one.

    Files come from strangers: shapes are read from the header and checked before any array is.
    """
    file = ModelFile.load(path)
    outputs = 3 * len(file.animated)
    if file.architecture not in ARCHITECTURES:
        raise UnderstudyError(f"{file.path} holds a network of the architecture {file.architecture!r}, which this "
                              "Understudy does not know. Update Understudy.")
    with torch.device("meta"):
        network = make_network(file.architecture, outputs, file.components, file.image_components)
    sizes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    wanted = sizes | {"whitening": (2,), "pca.mean": (outputs // 3, 3), "pca.basis": (file.components, outputs // 3, 3),
                      "confidence": (network.feature_count, 1 + len(file.regions))}
    for name, shape in wanted.items():
        found = file.tensors[name].shape if name in file.tensors else None
        if found != shape:
            raise UnderstudyError(f"{file.path} does not hold the network that it names: {name} is {found}, not "
                                  f"{shape}.")
    network.load_state_dict({name: torch.from_numpy(file.finite(name)) for name in sizes}, assign=True)
    mean, deviation = map(float, file.finite("whitening", np.float64))
    if not deviation > 0:
        raise UnderstudyError(f"{file.path} is not a valid model file: the deviation of its whitening is not positive.")
    known = {"format", "actor", "topology", "unit", "crop", "transfer", "architecture", "expected"}
    return Model(file.actor, file.unit, Crop(*file.crop), file.transfer, file.template, file.animated, file.stabiliser,
                 file.regions, (mean, deviation), file.finite("pca.mean"), file.finite("pca.basis"), network,
                 {name: value for name, value in file.about.items() if name not in known}, file.reference(),
                 file.finite("confidence"), file.learned(), file.familiarity())
