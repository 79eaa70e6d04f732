"""The words of `docs/ablation.md` around its tables. What is in braces comes from the measurements."""

BEFORE = """
# What the ideas bring, measured small

MimicMotion adds three ideas to pose-guided diffusion: maps that show how sure the estimator is of each
point, more weight on hands in the loss, and progressive fusion of the windows of a long video. This page
measures each of them on rendered dancers, where the truth is known. It is written by

```bash
make ablation
```

from the JSON files in `benchmarks/results/ablation`; what is there already is not measured again.

## How the arms were trained

Four arms: (a) plain, (b) confidence-aware maps, (c) hand loss, (d) both. All else is equal.

- **Pictures**: {size}x{size}, dancers of `mimic.dancers` seen from the hips up at zoom {zoom}, hands
  {hand_scale} times as large as natural, so that a hand covers about three by three latent pixels; in
  whole-body pictures of this size it would be one. {num_dancers} dancers with {num_pictures} pictures each,
  rendered and encoded once with the bundled VAE (frozen).
- **Poses in training**: trembling and failing as `add_detector_noise` does (strength 0 to
  {noise_strength:g}); and in {failing_share:.0%} of the pictures one arm is thrown elsewhere, hands or
  forearms are exchanged, or a hand is seen where none is (`benchmarks/ablation/failing.py`), each with a
  score drawn from 0.08 to 0.5. The same poses in all arms.
- **Maps**: (b) and (d) as released, brightness by score; (a) and (c) in the mode `binary`: what scores
  above the released threshold of 0.3 at full brightness, all else not at all.
- **Loss**: EDM's; (c) and (d) multiply it by 10 in rectangles around hands all of whose points score above
  {hand_threshold}; (a) and (b) nowhere. No other region is amplified.
- **Training**: {steps} steps of {batch_size} windows, {num_seeds} seeds, from random weights. In all arms
  of a seed step s meets the same windows with the same noise.
- **Model**: not the miniature's UNet, whose training takes more than an hour on two CPU cores
  (`docs/mini.md`) and is needed eight times here, but a denoiser that is drawn frame by frame and has no
  layers over time (`benchmarks/ablation/denoiser.py`). PoseNet, its place, the reference beside the noisy
  latents, the preconditioning and the loss are MimicMotion's. It draws in one step from sigma
  {sigma_max:g}, without guidance. What the ideas bring to a model with layers over time, at full size and
  after a full training, is not shown here.

## How they were measured

{num_clips} unseen dancers, clips of {clip_frames} frames at {clip_fps:g} frames/s, averaged weights.
*Clean*: exact poses. *Failing*: every driving frame has one failure, which lasts {spell} frames, of the
kinds and scores above. The hand region is the rendered hands and one pixel around. Temporal error: mean
absolute change from frame to frame that the truth does not have, in grey levels. Pictures of this size are
too small for a pose estimator, so in place of estimated joints there are two measures of place: how far the
truth's patch around a hand has to be moved to fit best, and one minus the overlap of the silhouettes.
Tables give mean ± standard deviation over clips, after the mean over seeds; gains are of squared error,
with paired bootstrap intervals over clips ({resamples} resamples).
"""

AFTER_CONFIDENCE = """
How to read this. Where a score is above 0.3, a binary map shows the wrong place at full brightness and the
other a faint one; up to 0.3 neither shows a body joint, and a hand is missing from the binary map and faint
in the other. False hands are the case that the idea is made for. Two of the failures are not what doubt is
good for in this drawing: left and right hands are drawn alike, so hands that are exchanged, and nothing
else, lie where hands are, and to dim them hides two true places; and a thrown hand lands near enough that
its drawing is still a good guess of the place, which a faint one says less clearly.

What was tried: failures with scores over the whole range that detectors give (0.08 to 0.5), so that none is
chosen to suit the idea; failures in three of ten training pictures, so that doubt is met often enough to be
learned; a longer training, below. What was not: layers over time, which could take what one frame doubts
from its neighbours, and trainings to the end: the loss still fell.
"""

EARLIER = """
The same trainings, measured before (lowered by, 95 % interval): they ran to 200 steps with a rate that fell
to a twentieth, and from there went on with the rate up again (`steps=200`, then `steps=500`, in one
folder).
"""

AFTER_FUSION = """
The jump is the largest change from frame to frame within the passage from one window to the next (the
frames that both hold), over the largest within as many steps elsewhere (`mimic.metrics.video.seam_jump`); 1
is seamless. The second column counts only changes that the truth does not have. The miniature's windows
agree closely even without fusion, so this says little about models whose windows do not.
"""

PICTURES = """
## Pictures

A row is an unseen dancer: reference, truth; exact poses: map, result; failing poses: map, result.
"""
