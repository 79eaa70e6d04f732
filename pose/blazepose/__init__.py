"""The bundled estimator: the networks of MediaPipe on onnxruntime, with nothing to download.

Bazarevsky et al., "BlazePose: On-device Real-time Body Pose tracking", 2020, arXiv 2006.10204; hands after
Zhang et al., arXiv 2006.10214; face mesh after Kartynnik et al., arXiv 1907.06724. The picture is cut into
rotated squares (`geometry`): persons (`detection`), the body in each (`body`), hands and face at the body's
wrists and head (`hands`, `face`); `layout` orders the points as everyone else here expects them.
"""

from pose.blazepose.estimator import BlazePose

__all__ = ["BlazePose"]
