"""The words of `docs/ablation.md` around its tables. What is in braces comes from the measurements."""

BEFORE = """
# What the ideas bring, measured small

MimicMotion adds three ideas to pose-guided diffusion: maps that show how sure the estimator is of each point, more
weight on hands in the loss, and progressive fusion of the windows of a long video. This page measures each of them
on rendered dancers, where the truth is known. It is written by

```bash
make ablation
```

from the JSON files in `benchmarks/results/ablation`; what is there already is not measured again.

## How the arms were trained

Four arms: (a) plain, (b) confidence-aware maps, (c) hand loss, (d) both. All else is equal.

- **Pictures**: {size}x{size}, dancers of `mimic.data.synthetic` seen from the hips up at zoom {zoom}, hands
  {hand_scale} times as large as natural, so that a hand covers about three by three latent pixels; in whole-body
  pictures of this size it would be one. {num_dancers} dancers with {num_pictures} pictures each, rendered and encoded
  once with the bundled VAE (frozen); all arms draw the same windows with the same noise in the same order.
- **Poses in training**: trembling and failing as `add_detector_noise` does (strength 0 to {noise_strength}); and in
  {failing_share:.0%} of the pictures one arm thrown elsewhere, hands or forearms exchanged, or a hand where none is
  (`benchmarks/ablation/failing.py`), each with a score drawn from 0.08 to 0.5. The same poses in all arms.
- **Maps**: (b) and (d) as released, brightness by score; (a) and (c) in the mode `binary`: what scores above the
  released threshold of 0.3 at full brightness, all else not at all.
- **Loss**: (c) and (d) multiply it by 10 in rectangles around hands all of whose points score above {hand_threshold};
  (a) and (b) by 1. No other region is amplified.
- **Start**: the bundled UNet knows both ideas, so it is not used. One common start from random weights:
  {common_steps} steps of {common_processes} processes with exact poses that are sure of everything, for which both
  drawings are the same, and the plain loss. From there {steps} steps for each arm and each of {num_seeds} seeds
  (batches of {batch_size} windows of {frames} pictures). Seeds differ in windows and noise.
- **Model**: `PoseConditionedSVDUNet` with widths {widths}, PoseNet and image encoder as the miniature's, sampled in
  one step from sigma {sigma_max:g}, without guidance.

## How they were measured

{num_clips} unseen dancers, clips of {clip_frames} frames at {clip_fps:g} frames/s, averaged weights. *Clean*: exact
poses. *Failing*: every driving frame has one failure, lasting {spell} frames, of the kinds and scores above.
The hand region is the rendered hands and one pixel around. Temporal error: mean absolute change from frame to frame
that the truth does not have, in grey levels. Pictures of this size are too small for a pose estimator, so in place of
estimated joints there are two measures of place: how far the truth's patch around a hand has to be moved to fit best,
and one minus the overlap of the silhouettes. Tables give mean ± standard deviation over clips, after the mean over
seeds; gains are of squared error, with paired bootstrap intervals over clips ({resamples} resamples).
"""

AFTER_HANDS = ""

AFTER_CONFIDENCE = """
A body joint that scores up to 0.3 is in neither kind of map, and such a hand is missing from a binary one and nearly
black in the other: there the two kinds tell the model nearly the same, and only above can confidence help.
"""

AFTER_FUSION = """
The jump is the largest change from frame to frame within the passage from one window to the next (the frames that
both hold), over the largest within as many steps elsewhere (`mimic.metrics.video.seam_jump`); 1 is seamless. The
second column counts only changes that the truth does not have.
"""

PICTURES = """
## Pictures

A row is an unseen dancer: reference, truth; exact poses: map, result; failing poses: map, result.
"""
