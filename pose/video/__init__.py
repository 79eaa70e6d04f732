"""Video files to frames: which frames, at which time, in which shape. The one reader of this project."""

from pose.video.frames import VideoReader, read_frames
from pose.video.probe import VideoInfo, probe
from pose.video.source import VideoError

__all__ = ["VideoError", "VideoInfo", "VideoReader", "probe", "read_frames"]
