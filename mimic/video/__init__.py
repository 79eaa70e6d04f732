"""Pictures and clips between files and arrays: RGB uint8, one frame at a time, whole files or none."""

from mimic.video.audio import AudioTrack
from mimic.video.images import PictureError, read_image, write_image
from mimic.video.probe import VideoError, VideoInfo, probe
from mimic.video.read import read_frames, released_stride
from mimic.video.write import VideoWriteError, VideoWriter

__all__ = [
    "AudioTrack",
    "PictureError",
    "VideoError",
    "VideoInfo",
    "VideoWriteError",
    "VideoWriter",
    "probe",
    "read_frames",
    "read_image",
    "released_stride",
    "write_image",
]
