"""The smallest networks that have every part."""

from __future__ import annotations

from syndiff.objectives.syndiff import SynDiffSettings

TINY = SynDiffSettings(
    channels=8,
    multipliers=(1, 2),
    blocks=1,
    attention_levels=(1,),
    time_dim=8,
    latent_dim=4,
    latent_embedding=8,
    latent_layers=2,
    one_shot_channels=4,
    one_shot_blocks=1,
    upsampling="resize",
    step_stem=4,
    step_widths=(8, 8),
    step_time_dim=8,
    patch_channels=4,
    patch_halvings=2,
    cycle_one_shot=5.0,
    cycle_diffusive=5.0,
    structure=1.0,
    gradient_penalty_interval=2,
)
