"""What each metric means, in one line for a reader who does not know it, and in which unit it is."""

from __future__ import annotations

from typing import NamedTuple


class Meaning(NamedTuple):
    """Title, unit (empty if there is none) and one line of explanation."""

    title: str
    unit: str
    text: str


MEANINGS = {
    "l1": Meaning("L1", "of 0 to 1", "mean difference of pixel values"),
    "l1_disco_divided_by_area": Meaning("L1 / area", "", "DisCo's L1: divided by the picture's area"),
    "psnr": Meaning("PSNR", "dB", "closeness of pixel values; 3 dB more is half the squared error"),
    "psnr_disco_uint8_overflow": Meaning("PSNR (DisCo)", "dB", "with the 8-bit overflow of DisCo's code"),
    "hand_psnr": Meaning("PSNR of hands", "dB", "the same where hands are"),
    "face_psnr": Meaning("PSNR of faces", "dB", "the same where faces are"),
    "ssim": Meaning("SSIM", "", "likeness of local structure; 1 is equal"),
    "lpips": Meaning("LPIPS", "", "difference as a network sees it; 0 is equal"),
    "fid": Meaning("FID", "", "distance between the statistics of all generated and all true pictures"),
    "fid_vid": Meaning("FID-VID", "", "FID of short pieces of video (3D ResNet-50)"),
    "fvd": Meaning("FVD", "", "distance between the statistics of generated and true videos (I3D)"),
    "flicker": Meaning("flicker", "of 255 grey levels", "change between frames that the truth does not have"),
    "seam_jump": Meaning("seam jump", "", "change where a window begins, relative to elsewhere; 1: none"),
    "keypoint_error": Meaning("joint error", "of the height", "distance of the joints from the true ones"),
    "keypoints_missing": Meaning("joints missing", "share", "true joints that are not found in the result"),
    "hand_keypoint_error": Meaning("hand error", "of the height", "distance of fingers from the true ones"),
    "hand_confidence": Meaning("hand confidence", "of 0 to 1", "how sure the pose estimator is of the hands"),
    "hand_confidence_of_truth": Meaning("hand confidence of truth", "of 0 to 1", "the same in the truth"),
    "change": Meaning("change", "of 255 grey levels", "change between frames: how much it moves"),
    "change_of_truth": Meaning("change of the truth", "of 255 grey levels", "the same in the true clip"),
    "identity_share_of_frames": Meaning("faces compared", "share", "frames that show a face in both clips"),
    "identity": Meaning("identity", "cosine", "likeness of the face to the reference; 1 is the same"),
}  # fmt: skip


def title_of(metric: str) -> str:
    """The title of a metric; its own name if it is not in the list."""
    return MEANINGS[metric].title if metric in MEANINGS else metric
