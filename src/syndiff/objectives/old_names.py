"""Earlier names of SynDiff's settings, from before each network had settings of its own.

The settings.json of old runs holds these names, and users may still type them.
"""

SYNDIFF = {
    name: f"generator.{name}"
    for name in (
        "channels",
        "multipliers",
        "blocks",
        "attention_levels",
        "time_dim",
        "latent_dim",
        "latent_embedding",
        "latent_layers",
    )
} | {
    "one_shot_channels": "one_shot.channels",
    "one_shot_blocks": "one_shot.blocks",
    "upsampling": "one_shot.upsampling",
    "step_stem": "step_discriminator.stem",
    "step_widths": "step_discriminator.widths",
    "step_time_dim": "step_discriminator.time_dim",
    "deviation_group": "step_discriminator.deviation_group",
    "patch_channels": "patch_discriminator.channels",
    "patch_halvings": "patch_discriminator.halvings",
}
