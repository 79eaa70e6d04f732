"""Pictures and clips between files and arrays: RGB uint8, one frame at a time, whole files or none."""

from mimic.video.audio import AudioTrack, SoundCheck, check_audio
from mimic.video.images import PictureError, PictureSource, picture_from, read_image, write_image
from mimic.video.kind import is_video, kind_of
from mimic.video.stride import released_stride
from mimic.video.write import VideoWriteError, VideoWriter
from pose.video import VideoError, VideoInfo, probe, read_frames

__all__ = [
    "AudioTrack",
    "PictureError",
    "PictureSource",
    "SoundCheck",
    "VideoError",
    "VideoInfo",
    "VideoWriteError",
    "VideoWriter",
    "check_audio",
    "is_video",
    "kind_of",
    "picture_from",
    "probe",
    "read_frames",
    "read_image",
    "released_stride",
    "write_image",
]
