"""Earlier names of hyper-parameters, from before each network had settings of its own.

The settings.json of old runs holds these names, and users may still type them. A method combines
those of its networks; the keys are the earlier names, the values the names now.
"""


def _moved(network: str, *names: str) -> dict[str, str]:
    """Names that a network's settings have kept."""
    return {name: f"{network}.{name}" for name in names}


RESNET = _moved("generator", "channels", "blocks", "upsampling")
ATTENTION_UNET = _moved("generator", "channels", "levels", "finest_gate")
CONTENT_STYLE = _moved("generator", "channels", "blocks", "style_dim", "hidden")
UNET = _moved(
    "denoiser", "channels", "multipliers", "blocks", "attention_levels", "heads", "dropout"
)
ONE_SHOT = _moved("one_shot", "upsampling") | {
    "one_shot_channels": "one_shot.channels",
    "one_shot_blocks": "one_shot.blocks",
}
PATCH = {
    "patch_channels": "discriminator.channels",
    "patch_halvings": "discriminator.halvings",
}
CASCADE = {
    "cascade_channels": "discriminator.channels",
    "cascade_halvings": "discriminator.halvings",
}
MULTI_SCALE = CASCADE | _moved("discriminator", "scales")
SYNDIFF = (
    _moved(
        "generator",
        "channels",
        "multipliers",
        "blocks",
        "attention_levels",
        "time_dim",
        "latent_dim",
        "latent_embedding",
        "latent_layers",
    )
    | ONE_SHOT
    | {
        "step_stem": "step_discriminator.stem",
        "step_widths": "step_discriminator.widths",
        "step_time_dim": "step_discriminator.time_dim",
        "deviation_group": "step_discriminator.deviation_group",
        "patch_channels": "patch_discriminator.channels",
        "patch_halvings": "patch_discriminator.halvings",
    }
)
