"""What the pages of help say beside the options themselves.

A new command needs an entry in `GUIDE`, a new option one in `OPTIONS`; tests hold both.
"""

from __future__ import annotations

from dataclasses import dataclass

START, DATA, TRAINING, ADVANCED = GROUPS = ("Start here", "Data", "Training", "Advanced")


@dataclass(frozen=True)
class Entry:
    """How a command is shown.

    Attributes:
        group: one of `GROUPS`.
        examples: as they are typed.
        common: parameters shown first; the others are "Advanced options".
        start: what the first example is for, where `syndiff` alone is to name it.
    """

    group: str
    examples: tuple[str, ...]
    common: tuple[str, ...] = ()
    start: str = ""


# Command → its entry, in the order in which `syndiff --help` lists the commands.
GUIDE: dict[str, Entry] = {
    "demo": Entry(
        START,
        ("syndiff demo demo", "syndiff demo demo --minutes 10 --subjects 18"),
        ("minutes", "subjects", "seed"),
        "see everything once, on virtual people: six to nine minutes on two CPU cores",
    ),
    "run": Entry(
        START,
        (
            "syndiff run YOUR_SCANS out --from T1 --to T2",
            "syndiff run YOUR_SCANS out --from T1 --to T2 --minutes 60",
        ),
        ("source", "target", "minutes", "size", "preset"),
        "train on your own scans, and read a report, in one command",
    ),
    "translate": Entry(
        START,
        (
            "syndiff translate brain-t1-t2 T1w.nii.gz T2w.nii.gz",
            "syndiff translate run/translators/T1_to_T2 scans/ results/ --workers 2",
            "syndiff translate run/translators/T1_to_T2 T1w.nii.gz T2w.nii.gz --samples 8",
            "syndiff translate brain-t1-t2 DICOM_FOLDER T2_SERIES --series 3",
        ),
        ("seed", "device", "batch_size", "sampling", "overwrite", "workers"),
        "translate a T1w scan of a head; nothing to train",
    ),
    "view": Entry(
        START,
        (
            "syndiff view T1w.nii.gz T2_synthetic.nii.gz",
            "syndiff view T1w.nii.gz T2_synthetic.nii.gz T2w.nii.gz --export page.html",
        ),
        ("trust", "export", "browser"),
    ),
    "models": Entry(START, ("syndiff models",)),
    "info": Entry(START, ("syndiff info brain-t1-t2", "syndiff info run/translators/T1_to_T2")),
    "help": Entry(START, ("syndiff help offset", "syndiff help train", "syndiff help")),
    "phantom": Entry(
        DATA,
        (
            "syndiff phantom raw --subjects 6 --modalities T1,T2",
            "syndiff phantom raw --anatomy label_maps/ --protocol mprage",
            "syndiff phantom raw --anatomy pelvis --modalities T1,T2,CT --organ-motion",
        ),
        ("subjects", "modalities", "seed", "spacing_mm"),
    ),
    "series": Entry(DATA, ("syndiff series DICOM_FOLDER", "syndiff series study.zip")),
    "prepare": Entry(
        DATA,
        (
            "syndiff prepare YOUR_SCANS data --modalities T1,T2",
            "syndiff prepare raw data --split train=8,val=2,test=2 --size 128 --spacing-mm 1.5",
            "syndiff prepare YOUR_SCANS --dry-run",
            "syndiff prepare YOUR_SCANS data --for brain-t1-t2",
            "syndiff prepare raw data --accelerate T1=4x4",
            "syndiff prepare IXI data --recipe examples/ixi.yaml",
            "syndiff prepare raw data --write-table scans.tsv",
        ),
        (
            *("modalities", "split", "split_file", "size", "spacing_mm", "ct_window", "table"),
            *("dry_run", "for_model"),
        ),
        "the same step by step; each command names the next",
    ),
    "doctor": Entry(
        DATA,
        ("syndiff doctor data", "syndiff doctor raw --modalities T1,T2 --out raw_quality.html"),
        ("modalities", "out"),
    ),
    "train": Entry(
        TRAINING,
        (
            "syndiff train data run --source T1 --target T2",
            "syndiff train data run --source T1 --target T2 --preset small --max-minutes 60",
            "syndiff train data run --resume",
        ),
        (
            *("source", "target", "preset", "max_steps", "max_minutes", "batch_size"),
            *("seed", "precision", "devices", "resume"),
        ),
    ),
    "plan": Entry(
        TRAINING,
        ("syndiff plan data", "syndiff plan data --presets small --seconds 20"),
        ("source", "target", "presets", "seconds"),
    ),
    "evaluate": Entry(
        TRAINING,
        ("syndiff evaluate data report --model mine=run/translators/T1_to_T2",),
        ("model", "split", "profile", "whole_volumes", "device"),
    ),
    "compare": Entry(
        TRAINING,
        (
            "syndiff compare mine=run theirs=their_images/ --data data --out comparison",
            "syndiff compare mine=run other=other_run --data data --out comparison "
            "--profile paper --metrics psnr_db,ssim",
        ),
        ("data", "out", "against", "profile", "metrics"),
    ),
    "score": Entry(
        TRAINING,
        (
            "syndiff score made.nii.gz acquired.nii.gz",
            "syndiff score made/ acquired/ --mask masks/ --profile synthrad2023 --out scores.json",
            "syndiff score sct/ ct/ --report commissioning.html",
        ),
        ("mask", "profile", "out", "report"),
    ),
    "methods": Entry(TRAINING, ("syndiff methods", "syndiff methods --size 128"), ("size",)),
    "bids": Entry(
        ADVANCED,
        (
            "syndiff bids BIDS BIDS/derivatives/syndiff participant --model brain-t1-t2",
            "syndiff bids BIDS OUT participant --participant-label 01 02 --only-missing",
        ),
        ("model", "participant_label", "only_missing", "workers"),
    ),
    "sample": Entry(
        ADVANCED,
        ("syndiff sample run/translators/T2 slices --count 16",),
        ("count", "seed", "device"),
    ),
    "node": Entry(
        ADVANCED,
        (
            "syndiff node --model brain-t1-t2 --send-to PACS@127.0.0.1:4242",
            "syndiff node --aet SYNDIFF --port 11112 --model brain-t1-t2 --address 0.0.0.0 "
            "--accept PACS@10.0.0.5 --send-to PACS@10.0.0.5:104",
            "syndiff node --config node.yaml",
        ),
        ("aet", "port", "model", "send_to", "accept", "config"),
    ),
    "export": Entry(
        ADVANCED,
        (
            "syndiff export run/translators/T1_to_T2 T1_to_T2_onnx",
            "syndiff export run/translators/T1_to_T2 T1_to_T2_step --part step",
        ),
        ("format", "part", "overwrite"),
    ),
    "import": Entry(
        ADVANCED,
        (
            "syndiff import gen_diffusive_2_50.pth T1_to_T2 --source T1 --target T2 "
            "--contrast1 T1 --data data",
        ),
        ("source", "target", "contrast1", "data"),
    ),
    "study": Entry(
        ADVANCED,
        (
            "syndiff study list",
            "syndiff study table8 --out study8 --tiny",
            "syndiff study table2 --out study2 --budget 10m --workers 2",
        ),
        ("out", "data", "budget", "seeds", "workers", "tiny"),
    ),
    "benchmark": Entry(
        ADVANCED,
        (
            "syndiff benchmark --preset small --size 64",
            "syndiff benchmark --what all --baseline --out benchmark.json",
        ),
        ("what", "preset", "size", "batch", "device", "out"),
    ),
}

# Parameter → its unit or kind, and a value that makes sense; or "command.parameter".
# Switches and options with named choices need none: they are their own example.
OPTIONS: dict[str, tuple[str, str]] = {
    "accept": ("AET@HOST", "PACS@127.0.0.1"),
    "prepare.accelerate": ("MODALITY=FACTORS", "T1=4x4"),
    "accumulate": ("PARTS", "4"),
    "address": ("ADDRESS", "0.0.0.0"),
    "aet": ("TITLE", "SYNDIFF"),
    "again_after_hours": ("HOURS", "24"),
    "against": ("NAME", "theirs"),
    "also": ("MODALITY=PATH", "PD=PD.nii.gz"),
    "anatomy": ("FOLDER", "label_maps/"),
    "assignments": ("NAME=VALUE", "gradient_penalty=0.1"),
    "attn_resolutions": ("PIXELS,…", "16"),
    "batch": ("SLICES,…", "1,4"),
    "batch_size": ("SLICES", "4"),
    "beta_max": ("NUMBER", "20"),
    "beta_min": ("NUMBER", "0.1"),
    "bias": ("FRACTION", "0.2"),
    "ch_mult": ("FACTORS", "1,1,2,2,4,4"),
    "checkpoint": ("NAME", "best"),
    "compare": ("FILE", "before.json"),
    "compare.out": ("FOLDER", "comparison"),
    "budget": ("BUDGET", "10m"),
    "study.out": ("FOLDER", "study8"),
    "seeds": ("TRAININGS", "3"),
    "bids.model": ("MODEL", "brain-t1-t2"),
    "doctor.out": ("FILE", "quality.html"),
    "compare.split": ("", ""),  # of named choices
    "node.config": ("FILE", "node.yaml"),
    "train.config": ("FILE", "run/run.yaml"),
    "contrast1": ("MODALITY", "T1"),
    "count": ("SLICES", "16"),
    "ct_window": ("WINDOW", "soft"),
    "data": ("FOLDER", "data"),
    "device": ("DEVICE", "cuda:0"),
    "devices": ("DEVICES", "2"),
    "discriminator_lr": ("RATE", "1e-4"),
    "ema_decay": ("FRACTION", "0.999"),
    "epochs": ("EPOCHS", "50"),
    "final_lr": ("RATE", "1e-5"),
    "folder": ("FOLDER", "syndiff-node"),
    "for_model": ("MODEL", "brain-t1-t2"),
    "generator": ("NUMBER", "2"),
    "generator_lr": ("RATE", "1.6e-4"),
    "hu_offset": ("HU", "-1024"),
    "hu_window": ("HU,HU", "-1024,3000"),
    "image_pool": ("IMAGES", "50"),
    "image_size": ("PIXELS", "256"),
    "lesions": ("LESIONS", "3"),
    "linear_decay_epochs": ("EPOCHS", "25"),
    "mask": ("FILE", "mask.nii.gz"),
    "max_minutes": ("MINUTES", "60"),
    "max_slices": ("SLICES", "100"),
    "max_steps": ("STEPS", "20000"),
    "metrics": ("NAMES", "psnr_db,ssim"),
    "min_free_gb": ("GB", "10"),
    "minutes": ("MINUTES", "10"),
    "misregistration_mm": ("MM", "2"),
    "modalities": ("NAMES", "T1,T2"),
    "modality": ("NAME", "mprage"),
    "node.model": ("MODEL", "brain-t1-t2"),
    "model": ("NAME=PATH", "mine=run/translators/T1_to_T2"),
    "n_mlp": ("LAYERS", "3"),
    "nodes": ("MACHINES", "2"),
    "noise": ("FRACTION", "0.02"),
    "num_channels_dae": ("CHANNELS", "64"),
    "num_res_blocks": ("BLOCKS", "2"),
    "num_timesteps": ("STEPS", "4"),
    "nz": ("NUMBER", "100"),
    "one_shot": ("RUN", "earlier_run"),
    "one_shot_first": ("FRACTION", "0.3"),
    "orientation": ("DIRECTIONS", "PL"),
    "out": ("FILE", "benchmark.json"),
    "pair_share": ("FRACTION", "0.5"),
    "paired": ("SPLITS", "val,test"),
    "pairs_from": ("FOLDER", "virtual_data"),
    "participant_label": ("LABEL", "01"),
    "pattern": ("PATTERN", "'*_0000.nii.gz'"),
    "presets": ("PRESETS", "default,small"),
    "seconds": ("SECONDS", "20"),
    "port": ("PORT", "11112"),
    "prefer": ("WORDS", "acq-mprage"),
    "recipe": ("FILE", "examples/ixi.yaml"),
    "report": ("FILE", "commissioning.html"),
    "quiet_seconds": ("SECONDS", "30"),
    "repeats": ("CALLS", "5"),
    "samples": ("CHAINS", "8"),
    "sampling_steps": ("STEPS", "50"),
    "scheduler": ("ADDRESS", "tcp://host:8786"),
    "seed": ("NUMBER", "1"),
    "send_to": ("AET@HOST:PORT", "PACS@127.0.0.1:4242"),
    "series": ("SERIES", "3"),
    "size": ("PIXELS", "128"),
    "slices": ("SLICES", "160"),
    "source": ("MODALITY", "T1"),
    "source_scale": ("FACTOR", "3.2"),
    "spacing_mm": ("MM", "1.5"),
    "evaluate.split": ("", ""),  # of named choices
    "split": ("SPLIT", "train=8,val=2,test=2"),
    "split_file": ("TABLE", "splits.tsv"),
    "structure": ("WEIGHT", "0.5"),
    "subjects": ("PEOPLE", "12"),
    "table": ("TABLE", "scans.tsv"),
    "target": ("MODALITY", "T2"),
    "target_scale": ("FACTOR", "2.9"),
    "trust": ("CHAINS", "8"),
    "validate_every": ("STEPS", "500"),
    "value_range": ("LO,HI", "0,1000"),
    "warmup": ("CALLS", "1"),
    "what": ("WHAT", "train,volume"),
    "whole_volumes": ("FOLDER", "raw"),
    "workers": ("PROCESSES", "2"),
    "view.export": ("FILE", "page.html"),
    "view.port": ("PORT", "8000"),
    "view.trust": ("FILE", "spread.nii.gz"),
    "write_table": ("TABLE", "scans.tsv"),
    "z_emb_dim": ("CHANNELS", "256"),
}


def unit_and_example(command: str, parameter: str) -> tuple[str, str]:
    """Both are empty for an option that is its own example."""
    return OPTIONS.get(f"{command}.{parameter}", OPTIONS.get(parameter, ("", "")))
