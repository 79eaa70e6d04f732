"""The words of `docs/ablation.md` around its tables. What is in braces comes from the measurements."""

BEFORE = """
# What the ideas bring, measured small

{summary}

MimicMotion adds three ideas to pose-guided diffusion: pose maps that show the estimator's confidence in
each point, a larger weight of hands in the loss, and progressive fusion of the windows of a long video.
This page measures the effect of each on rendered dancers, for which the truth is known. It is generated
by

```bash
make ablation
```

from the JSON files in `benchmarks/results/ablation`; existing results are not measured again.

## How the arms were trained

Four arms: (a) plain, (b) confidence-aware maps, (c) hand loss, (d) both. Everything else is equal.

- **Pictures**: {size}x{size}, dancers of `mimic.dancers` seen from the hips up at zoom {zoom}, hands
  {hand_scale} times as large as natural, so that a hand covers about three by three latent pixels; in
  whole-body pictures of this size it would be one. {num_dancers} dancers with {num_pictures} pictures each,
  rendered and encoded once with the bundled VAE (frozen).
- **Poses in training**: with the errors of `add_detector_noise` (strength 0 to {noise_strength:g}); in
  addition, in {failing_share:.0%} of the pictures one arm is displaced, hands or forearms are swapped, or
  a hand is detected where none is (`benchmarks/ablation/failing.py`), each with a score drawn from 0.08
  to 0.5. The poses are the same in all arms.
- **Maps**: (b) and (d) as released, with brightness by score; (a) and (c) in the mode `binary`: points
  with a score above the released threshold of 0.3 at full brightness, no other points.
- **Loss**: that of EDM; (c) and (d) multiply it by 10 in the bounding boxes of hands whose points all
  have a score above {hand_threshold}; (a) and (b) do not. No other region is amplified.
- **Training**: {steps} steps of {batch_size} windows, {num_seeds} seeds, from random weights. In all arms
  with the same seed, step s uses the same windows with the same noise.
- **Model**: not the miniature's UNet, whose training takes more than an hour on two CPU cores
  ([the miniature](mini.md)) and would be needed eight times, but a denoiser of single frames, without
  temporal layers (`benchmarks/ablation/denoiser.py`). PoseNet, its position, the concatenation of
  reference and noisy latents, the preconditioning and the loss are MimicMotion's. It samples in one step
  from sigma {sigma_max:g}, without guidance. The effect on a model with temporal layers, at full size and
  after a full training, is not measured here.

## How they were measured

{num_clips} unseen dancers, clips of {clip_frames} frames at {clip_fps:g} frames/s, averaged weights.
*Clean*: exact poses. *Failing*: every driving frame has one failure, which lasts {spell} frames, of the
kinds and scores above. The hand region is the rendered hands plus one pixel around them. Temporal error:
mean absolute change from frame to frame that the truth does not have, in grey levels. Pictures of this
size are too small for a pose estimator, so instead of estimated joints two metrics measure positions: the
distance by which the truth's patch around a hand has to be moved for the best fit, and one minus the
overlap of the silhouettes.
Tables give mean ± standard deviation over clips, after the mean over seeds; gains are of squared error,
with paired bootstrap intervals over clips ({resamples} resamples).
"""

AFTER_CONFIDENCE = """
Interpretation. If a score is above 0.3, a binary map shows the wrong position at full brightness, and the
confidence-aware map shows it faintly; up to 0.3 neither shows a body joint, and a hand is missing in the
binary map and faint in the other. The idea is meant for false hands. For two other failures, dimming does
not help in this kind of drawing: left and right hands look the same, so swapped hands are still at
positions of hands, and dimming them hides two correct positions; and a displaced hand is close enough for
its drawing to be a good estimate of the position, which is less clear if it is faint.

What was tried: failures with scores over the whole range of detectors (0.08 to 0.5), so that no score
favours the idea; failures in three of ten training pictures, so that low confidence is frequent enough to
be learned; a longer training, see below. What was not tried: temporal layers, which could use
neighbouring frames where one frame has a low confidence, and training to convergence: the loss was still
falling.
"""

EARLIER = """
The same trainings, measured earlier (lowered by, 95 % interval): they ran for 200 steps with a learning
rate that fell to a twentieth, and continued from there with a new schedule (`steps=200`, then
`steps=500`, in one folder).
"""

AFTER_FUSION = """
The jump is the largest change from frame to frame within the overlap of two windows, divided by the
largest within the same number of steps elsewhere (`mimic.metrics.video.seam_jump`); 1 is seamless. The
second column counts only changes that the truth does not have. The miniature's windows agree closely even
without fusion, so this says little about models whose windows do not.
"""

PICTURES = """
## Pictures

Each row shows an unseen dancer: reference, truth; exact poses: map, result; failing poses: map, result.
"""
