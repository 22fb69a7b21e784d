"""The model file: all that solving a video needs, in one safetensors file that cannot run code (DESIGN.md 3)."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from .crop import HEIGHT, WIDTH, Crop
from .errors import UnderstudyError
from .files import atomic
from .network import DROPOUT, FEATURES, Network
from .topology import Mesh

FORMAT = 1
LIMIT = 4 << 30  # bytes; the largest mesh that makes sense stays far below
VERTEX_LIMIT = 1_000_000
COMPONENT_LIMIT = 4096


@dataclass
class Model:
    """A trained actor.

    unit : metres per mesh unit.    animated, stabiliser : vertex indices, int32.    regions : name -> vertex indices.
    whitening : mean and standard deviation of gray levels over the training inputs.
    mean : (A, 3) and basis : (K, A, 3) float32, the PCA that the output layer started from.
    reference : (320, 240) uint8, the mean training input, to compare the framing of footage with; None in old files.
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
    network: Network
    about: dict = field(default_factory=dict)
    reference: np.ndarray | None = None

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
        arrays = {
            "whitening": np.array(self.whitening, np.float64), "pca.mean": self.mean, "pca.basis": self.basis,
            "template.vertices": self.template.vertices, "template.face_sizes": self.template.face_sizes,
            "template.face_indices": self.template.face_indices,
            "mask.animated": self.animated, "mask.stabiliser": self.stabiliser,
            "confidence": confidence_weights(self.network, self.animated, self.regions),
            **{f"region.{name}": value for name, value in self.regions.items()},
            **({} if self.reference is None else {"reference": self.reference}),
        }
        tensors.update({name: torch.from_numpy(np.array(value, order="C")) for name, value in arrays.items()})
        crop = self.crop
        about = {"format": FORMAT, "actor": self.actor, "topology": self.topology, "unit": self.unit,
                 "crop": [crop.x, crop.y, crop.width, crop.height], "transfer": self.transfer,
                 "architecture": {"name": "convolutional", "components": len(self.basis)}, **self.about}
        write_tensors(path, tensors, about)


def write_tensors(path: Path | str, tensors: dict[str, torch.Tensor], about: dict) -> None:
    """Write tensors and their metadata to a safetensors file, atomically."""
    content = save(tensors, {"understudy": json.dumps(about, ensure_ascii=False)})
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def confidence_weights(network: Network, animated: np.ndarray, regions: dict[str, np.ndarray]) -> np.ndarray:
    """Weights w with spread^2 = sum over features x_i^2 w_i, (9720, 1 + regions) float32, cm2.

    Behind the dropout layer everything is linear, so the mean variance of a vertex that dropout would cause needs no
    sampling: p / (1 - p) times the squared length of each feature's effect. Column 0 is all animated vertices, the
    others are the regions in order of name.
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
    path = Path(path)
    if not path.is_file():
        raise UnderstudyError(f"There is no model file {path}. Train the actor first, or name another model.")
    if path.stat().st_size > LIMIT:
        raise UnderstudyError(f"{path} is larger than {LIMIT >> 30} GB and is no model file.")
    try:
        with safe_open(path, framework="pt") as file:
            about = _metadata(path, file.metadata())
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            network = _empty_network(path, about, shapes)
            tensors = {name: file.get_tensor(name) for name in shapes}
    except SafetensorError as error:
        raise UnderstudyError(f"{path} is not a whole model file ({error}). Copy it again, or train again.") from error
    except OSError as error:
        raise UnderstudyError(f"Cannot read {path}: {error.strerror or error}.") from error
    try:
        return _build(path, about, tensors, network)
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
        raise UnderstudyError(f"{path} is not a valid model file: {error}.") from error


def _metadata(path: Path, metadata: dict | None) -> dict:
    try:
        about = json.loads((metadata or {})["understudy"])
        version = int(about["format"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise UnderstudyError(f"{path} is a safetensors file, but not one of ours.") from error
    if version > FORMAT:
        raise UnderstudyError(f"{path} was written by a newer Understudy (format {version}; this one reads up to "
                              f"{FORMAT}). Update the add-on.")
    return about


def _empty_network(path: Path, about: dict, shapes: dict) -> Network:
    """A network of the file's sizes, after checking that the file's shapes are those of such a network."""
    try:
        (outputs,), components = shapes["output.bias"], int(about["architecture"]["components"])
        if not (0 < outputs <= 3 * VERTEX_LIMIT and outputs % 3 == 0 and 0 < components <= COMPONENT_LIMIT):
            raise ValueError(f"{outputs} outputs of {components} components make no sense")
        with torch.device("meta"):
            network = Network(outputs, components)
        wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
        wanted |= {"whitening": (2,), "pca.mean": (outputs // 3, 3), "pca.basis": (components, outputs // 3, 3),
                   "mask.animated": (outputs // 3,)}
        for name, shape in wanted.items():
            if shapes.get(name) != shape:
                raise ValueError(f"{name} is {shapes.get(name)}, not {shape}")
    except (KeyError, TypeError, ValueError) as error:
        raise UnderstudyError(f"{path} does not hold the network that it names: {error}.") from error
    return network


def _build(path: Path, about: dict, tensors: dict[str, torch.Tensor], network: Network) -> Model:
    own = {name: tensors[name].float() for name in network.state_dict()}
    arrays = {name: value.numpy() for name, value in tensors.items() if name not in own}
    network.load_state_dict(own, assign=True)
    template = Mesh(arrays["template.vertices"].astype(np.float32), arrays["template.face_sizes"].astype(np.int32),
                    arrays["template.face_indices"].astype(np.int32))
    count = len(template.vertices)
    regions = {name.removeprefix("region."): value.astype(np.int32)
               for name, value in arrays.items() if name.startswith("region.")}
    masks = {name: arrays[f"mask.{name}"].astype(np.int32) for name in ("animated", "stabiliser")}
    reference = arrays.get("reference")
    if reference is not None and (reference.shape, reference.dtype) != ((HEIGHT, WIDTH), np.uint8):
        raise ValueError(f"reference should be a picture of {WIDTH} x {HEIGHT} gray pixels")
    if template.vertices.shape != (count, 3):
        raise ValueError("the template's vertices are not (V, 3)")
    for name, mask in (masks | regions | {"faces": template.face_indices}).items():
        if mask.ndim != 1 or (len(mask) and not (0 <= mask.min() and mask.max() < count)):
            raise ValueError(f"{name} names vertices that the template does not have")
    if template.face_sizes.sum() != len(template.face_indices) or (template.face_sizes < 3).any():
        raise ValueError("the template's faces do not add up")
    if template.hash != about["topology"]:
        raise ValueError("the template is not the topology that the metadata names")
    if bad := [name for name, value in tensors.items() if value.is_floating_point() and not value.isfinite().all()]:
        raise ValueError(f"{bad[0]} holds numbers that are not finite")
    mean, deviation = map(float, arrays["whitening"])
    unit = float(about["unit"])
    if not (deviation > 0 and 0 < unit < 1e6):
        raise ValueError("whitening deviation and unit must be greater than zero")
    known = {"format", "actor", "topology", "unit", "crop", "transfer", "architecture"}
    return Model(str(about["actor"]), unit, Crop(*map(float, about["crop"])), str(about["transfer"]), template,
                 masks["animated"], masks["stabiliser"], regions, (mean, deviation), arrays["pca.mean"],
                 arrays["pca.basis"], network, {name: value for name, value in about.items() if name not in known},
                 reference)


assert FEATURES == 9720  # the paper's count; the model format depends on it
