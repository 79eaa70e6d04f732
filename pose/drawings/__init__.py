"""Drawn skeletons, as OpenPose and DWPose draw them: recognised, and read back as poses."""

from pose.drawings.detect import is_skeleton_drawing
from pose.drawings.reader import UNREADABLE, DrawnSkeletons

__all__ = ["UNREADABLE", "DrawnSkeletons", "is_skeleton_drawing"]
