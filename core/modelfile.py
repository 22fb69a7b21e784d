"""What a model file tells without torch: the template and its masks, the crop, and the linear head of the network.

A model file is a safetensors file: 8 bytes with the length of a JSON header, the header, then the tensors without gaps.
Files come from strangers: sizes are compared with those of the file before memory is taken, and nothing is executed.
Blender reads models with this; core/model.py has what solves.
"""

import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from .errors import UnderstudyError
from .familiarity import Familiarity, read_familiarity
from .fields import is_number, is_whole
from .files import hash_file
from .topology import Mesh, check_vertex_list, make_mesh

FORMAT = 1
LIMIT = 4 << 30  # bytes; the largest mesh that makes sense stays far below
HEADER_LIMIT = 4 << 20  # bytes; the headers of real models have a few kB
VERTEX_LIMIT = 1_000_000
COMPONENT_LIMIT = 4096
INPUT_SHAPE = (320, 240)  # rows and columns of the network's input (core/crop.py, which needs OpenCV)
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1",
          "U8": "<u1", "BOOL": "<?"}


def model_in(path: Path | str) -> Path:
    """The model file of an actor folder; any other path is that of a model file itself."""
    path = Path(path)
    return path / "model.safetensors" if path.is_dir() else path


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies in its file."""

    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int  # bytes from the start of the file


@dataclass(frozen=True, eq=False)
class ModelFile:
    """A trained actor, as far as numpy can read it.

    unit : metres per mesh unit.    crop : x, y, width, height in footage pixels.    transfer : curve of the footage.
    animated, stabiliser : vertex indices, int32.    regions : name -> vertex indices.    components : K.
    about : all of the metadata: training configuration, data hashes, validation RMSE.
    """

    path: Path
    actor: str
    unit: float
    crop: tuple[float, float, float, float]
    transfer: str
    template: Mesh
    animated: np.ndarray
    stabiliser: np.ndarray
    regions: dict[str, np.ndarray]
    components: int
    about: dict
    tensors: dict[str, Tensor] = field(repr=False)

    @classmethod
    def load(cls, path: Path | str) -> "ModelFile":
        """Read and validate all but the network's numbers. Raises UnderstudyError, in a sentence."""
        path = Path(path)
        about, tensors = _read_header(path)
        try:
            return cls(path, *_metadata(about), *_arrays(path, about, tensors), about, tensors)
        except (KeyError, TypeError, ValueError) as error:
            reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
            raise UnderstudyError(f"{path} is not a valid model file: {reason}. Copy it again, or train again."
                                  ) from error

    @property
    def topology(self) -> str:
        return self.template.hash

    @property
    def architecture(self) -> str:
        """The name of the network's architecture (core/architectures.py)."""
        return str(self.about["architecture"].get("name"))

    @property
    def image_components(self) -> int:
        """Principal components that a fully connected network sees a picture as; 0 in others."""
        shape = self.tensors["image_basis"].shape if "image_basis" in self.tensors else ()
        return shape[0] if shape else 0

    def head(self) -> tuple[np.ndarray, np.ndarray]:
        """The output layer: W (3 A, K) and b (3 A,), float32 in mesh units.

        The animated vertices of a frame are W @ code + b, in the order x, y, z of each vertex.
        """
        centimetres = np.float32(100 * self.unit)
        return self.finite("output.weight") / centimetres, self.finite("output.bias") / centimetres

    def reference(self) -> np.ndarray | None:
        """The mean of the training inputs, (320, 240) uint8; None in models without."""
        return self.read("reference") if "reference" in self.tensors else None

    def learned(self) -> np.ndarray | None:
        """Fingerprints of the frames that it has learned from (training/replay.py), (n,) int64; None in old models."""
        found = self.tensors.get("learned")
        return self.read("learned") if found and found.dtype == "<i8" and len(found.shape) == 1 else None

    def familiarity(self) -> Familiarity | None:
        """What the model knows of its training footage; None in models without."""
        names = [name for name in self.tensors if name.startswith("familiarity.")]
        if not names:
            return None
        try:
            return read_familiarity({name.removeprefix("familiarity."): self.finite(name) for name in names},
                                    self.about.get("expected"), self.tensors["confidence"].shape[0], self.components)
        except ValueError as error:
            raise UnderstudyError(f"{self.path} is not a whole model file ({error}). Copy it again, or train again."
                                  ) from error

    def sha256(self) -> str:
        """SHA-256 of the file, hexadecimal; by this a solve names its model."""
        return self._sha256

    @cached_property
    def _sha256(self) -> str:
        return hash_file(self.path)

    def read(self, name: str) -> np.ndarray:
        """One tensor, read anew."""
        return _read(self.path, self.tensors[name])

    def finite(self, name: str, dtype: type = np.float32) -> np.ndarray:
        """One tensor as `dtype`. Raises UnderstudyError if it holds what is no finite number."""
        with np.errstate(over="ignore"):
            values = self.read(name).astype(dtype, copy=False)
        if not np.isfinite(values).all():
            raise UnderstudyError(f"{self.path} is not a valid model file: {name} holds numbers that are not finite.")
        return values


def _read_header(path: Path) -> tuple[dict, dict[str, Tensor]]:
    """The metadata of ours and the tensors' places, which fill the file without gaps."""
    if not path.is_file():
        raise UnderstudyError(f"There is no model file {path}. Train the actor first, or name another model.")
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            if size > LIMIT:
                raise UnderstudyError(f"{path} is larger than {LIMIT >> 30} GB and is no model file.")
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, HEADER_LIMIT):
                raise ValueError(f"its header should have {length} bytes")
            header = json.loads(file.read(length))
        metadata = header.pop("__metadata__", None) or {}
        tensors = _places(header, 8 + length, size)
    except OSError as error:
        raise UnderstudyError(f"Cannot read {path}: {error.strerror or error}.") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UnderstudyError(f"{path} is not a whole model file ({error}). Copy it again, or train again."
                              ) from error
    try:
        about = json.loads(metadata["understudy"])
        version = int(about["format"])
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UnderstudyError(f"{path} is a safetensors file, but not one of ours.") from error
    if version > FORMAT:
        raise UnderstudyError(f"{path} was written by a newer Understudy (format {version}; this one reads up to "
                              f"{FORMAT}). Update Understudy.")
    return about, tensors


def _places(header: dict, start: int, size: int) -> dict[str, Tensor]:
    tensors, spans = {}, []
    for name, entry in header.items():
        dtype, shape, (begin, end) = np.dtype(DTYPES[entry["dtype"]]), tuple(entry["shape"]), entry["data_offsets"]
        if not all(is_whole(number) and 0 <= number <= LIMIT for number in (*shape, begin, end)) or len(shape) > 4:
            raise ValueError(f"{name} has no place in the file")
        if end - begin != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{name} takes {end - begin} bytes, which is not its size")
        tensors[name] = Tensor(dtype, shape, start + begin)
        spans.append((begin, end))
    spans.sort()
    if [begin for begin, _ in spans] + [size - start] != [0] + [end for _, end in spans]:
        raise ValueError("its tensors do not fill it")
    return tensors


def _read(path: Path, tensor: Tensor) -> np.ndarray:
    try:
        with open(path, "rb") as file:
            file.seek(tensor.offset)
            return np.fromfile(file, tensor.dtype, math.prod(tensor.shape)).reshape(tensor.shape)
    except (OSError, ValueError) as error:
        raise UnderstudyError(f"Cannot read {path}: {getattr(error, 'strerror', None) or error}.") from error


def _metadata(about: dict) -> tuple[str, float, tuple[float, float, float, float], str]:
    """Actor, unit, crop and transfer curve."""
    unit, crop = about["unit"], about["crop"]
    if not (is_number(unit) and 0 < unit < 1e6):
        raise ValueError("its unit should be greater than zero")
    if not (isinstance(crop, list) and len(crop) == 4 and all(map(is_number, crop))):
        raise ValueError("its crop should be four numbers")
    return str(about["actor"]), float(unit), tuple(map(float, crop)), str(about["transfer"])


def _arrays(path: Path, about: dict, tensors: dict[str, Tensor]) -> tuple:
    """Template, animated and stabiliser vertices, regions and the number of components."""
    outputs, components = math.prod(tensors["output.bias"].shape), about["architecture"]["components"]
    if not (0 < outputs <= 3 * VERTEX_LIMIT and outputs % 3 == 0
            and is_whole(components) and 0 < components <= COMPONENT_LIMIT):
        raise ValueError(f"{outputs} outputs of {components} components make no sense")
    wanted = {"output.weight": (outputs, components), "output.bias": (outputs,), "mask.animated": (outputs // 3,)}
    if "reference" in tensors:
        wanted["reference"] = INPUT_SHAPE
        if tensors["reference"].dtype != np.uint8:
            raise ValueError("reference is no picture of 8 bits")
    for name, shape in wanted.items():
        if tensors[name].shape != shape:
            raise ValueError(f"{name} is {tensors[name].shape}, not {shape}")

    def numbers(name: str, kind: str) -> np.ndarray:
        if tensors[name].dtype.kind != kind or len(tensors[name].shape) > 2:
            raise ValueError(f"{name} is no list of numbers")
        return _read(path, tensors[name])

    template = make_mesh(numbers("template.vertices", "f"), numbers("template.face_sizes", "i"),
                         numbers("template.face_indices", "i"), f"The template in {path}")
    if template.hash != about["topology"]:
        raise ValueError("the template is not the topology that the metadata names")
    count = len(template.vertices)

    def mask(name: str) -> np.ndarray:
        """Vertex indices in the order of the file; there may be none."""
        values = numbers(name, "i")
        if values.size:
            check_vertex_list(values, count, f"{name} in {path}")
        return values.astype(np.int32)

    regions = {name.removeprefix("region."): mask(name) for name in tensors if name.startswith("region.")}
    return template, mask("mask.animated"), mask("mask.stabiliser"), regions, components
