"""Drawn skeletons, as OpenPose and DWPose draw them: recognised, and read back as poses."""

from pose.drawings.detect import are_skeleton_drawings, is_skeleton_drawing
from pose.drawings.reader import UNREADABLE, DrawnSkeletons

__all__ = ["UNREADABLE", "DrawnSkeletons", "are_skeleton_drawings", "is_skeleton_drawing"]
