"""The six bundled networks, and the sizes of their inputs. All take uint8 RGB ``N x S x S x 3``."""

from __future__ import annotations

from dataclasses import dataclass

from pose.session import BUNDLED, Network, available_cores

PERSON_SIZE = 224
BODY_SIZE = 256
RECROP_SIZE = 256
HAND_SIZE = 224
FACE_SIZE = 128
MESH_SIZE = 192


@dataclass(frozen=True)
class Networks:
    """The networks, each named after its task."""

    persons: Network  # boxes of persons
    body: Network  # 39 points, heat maps
    recrop: Network  # a better square for a hand
    hand: Network  # 21 points
    face: Network  # boxes of faces
    mesh: Network  # 468 points

    @classmethod
    def load(cls, *, device: str = "auto", num_threads: int | None = None) -> Networks:
        """Load all six; on the CPU unless a CUDA device is named: they are too small to gain from one."""
        device = "cpu" if device == "auto" else device
        num_threads = num_threads or min(2, available_cores())

        def network(name: str) -> Network:
            return Network(BUNDLED / f"{name}.onnx", device=device, num_threads=num_threads)

        return cls(
            persons=network("pose_detection"),
            body=network("pose_landmark"),
            recrop=network("hand_recrop"),
            hand=network("hand_landmark"),
            face=network("face_detection"),
            mesh=network("face_landmark"),
        )
