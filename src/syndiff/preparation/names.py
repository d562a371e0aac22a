"""The words in names of files and folders that all layouts know.

Names are split at "-", "_", "." and spaces; upper and lower case are equivalent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

# Words of one line name one modality. BraTS writes t1n, t1c, t2w, t2f since 2023.
MODALITIES = (
    ("t1", "t1w", "t1n"),
    ("t1c", "t1ce", "t1gd", "t1post", "t1km"),
    ("t2", "t2w"),
    ("flair", "flairw", "t2f", "t2flair"),
    ("pd", "pdw"),
    ("ct",),
    ("mr", "mri"),
)
# Modalities that are recognised and skipped, unless the user asks for one by this word.
OTHERS = [
    "adc",
    "angio",
    "asl",
    "bold",
    "cbct",
    "cect",
    "cta",
    "dir",
    "dki",
    "dti",
    "dwi",
    "epi",
    "fieldmap",
    "inplanet2",
    "ldct",
    "megre",
    "mese",
    "mp2rage",
    "mra",
    "mrv",
    "ncct",
    "pet",
    "qsm",
    "sct",
    "spect",
    "swi",
    "t2star",
    "t2starw",
    "unit1",
]
COMPOUNDS = (  # pairs of words that together name a modality, and that modality
    (("t2", "flair"), "flair"),
    (("t2w", "flair"), "flair"),
    *((("t1", word), "t1c") for word in ("c", "ce", "gd", "post", "postcontrast", "km")),
    *((("t1w", word), "t1c") for word in ("ce", "gd", "post", "postcontrast", "km")),
    *((("t2", word), "t2star") for word in ("star", "starw")),
)

# Words that mark files as masks, label maps or tissue maps.
NO_SCAN = re.compile(
    r".*(mask|masks|seg|segs|segmentation|segmentations|label|labels|labelstr|labelsts|probseg)"
)
NO_SCAN_AT_THE_END = re.compile(  # earlier in a name these words may be initials
    r"lesions?|rois?|tumou?r|aparc|wmparc|gm|wm|csf|gt|groundtruth|contours?|annotations?"
)
NO_SCAN_FOLDER = re.compile(r"(masks?|labels?(tr|ts)?|segs?|segmentations?)")
STRIPPED = {"brain", "bet", "ss", "skullstripped", "skullstrip", "stripped", "masked"}

# Words behind a modality that tell versions of one scan apart (HCP, UK Biobank, BIDS-like).
VERSION = re.compile(
    r"(mpr|spc|run|echo|acq|rec)\d*|acpc|dc|restore|orig|defaced|deface|unbiased|n4|norm|brain|bet"
    r"|ss|skullstripped|skullstrip|stripped|masked|\d{1,2}|(acq|rec|desc|space|run|ce|res)-.+"
)

# A visit of a person. Words of the second line are also used as people's names: v1, m03, d0129.
SESSION = re.compile(
    r"(ses|session|visit|week|wk|day|month|year|timepoint|time|tp|exam|followup|fu|baseline|bl|pre|"
    r"post|preop|postop|pretreatment|posttreatment|scan(?=[-_ ]?\d))(\d[\w.-]*|[-_ ][\w.-]+)?"
    r"|(v|m|y|d)\d{1,4}"
    r"|(19|20)\d\d[-_.]?(0[1-9]|1[0-2])[-_.]?([0-2]\d|3[01])([-_ T.].*)?"
    r"|([0-2]\d|3[01])[-_.](0[1-9]|1[0-2])[-_.](19|20)\d\d",
    re.IGNORECASE,
)
# Names that hold a person and a visit: BraTS-GLI-00017-000, UPENN-GBM-00001_11, Brats18_2013_0_1.
PERSON_AND_VISIT = (
    re.compile(r"(BraTS-[A-Za-z]+-\d+)-(\d{3})", re.IGNORECASE),
    re.compile(r"(sub-[A-Za-z0-9]+)_(\d{1,2})"),
    re.compile(r"(UPENN-GBM-\d+)_(\d\d)", re.IGNORECASE),
    re.compile(r"(Brats1\d_[A-Za-z0-9]+(?:_[A-Za-z0-9]+)*)_(\d)", re.IGNORECASE),
    re.compile(r"(OAS\d+)(?:_MR)?_(d\d{4})", re.IGNORECASE),
    re.compile(
        r"(.*\d.*?)[-_](ses[-_]?\w+|(?:19|20)\d\d-?(?:0[1-9]|1[0-2])-?(?:[0-2]\d|3[01]))",
        re.IGNORECASE,
    ),
    re.compile(
        r"(.*\d.*?)[-_]((?:visit|week|month|day|tp|timepoint|baseline|followup)[-_]?\w*)",
        re.IGNORECASE,
    ),
)

# Folder names that say nothing about the person.
NEUTRAL = set(
    [
        "anat",
        "anatomical",
        "ct",
        "images",
        "imagestr",
        "imagests",
        "mri",
        "mr",
        "nifti",
        "niftis",
        "nii",
        "raw",
        "rawdata",
        "scan",
        "scans",
        "structural",
        "unprocessed",
        "preprocessed",
        "mninonlinear",
        "volumes",
        "1.5t",
        "3t",
        "7t",
        "dicom",
    ]
)
PERSON = re.compile(
    r"(sub|subj|subject|pat|patient|participant|case|person|vol|volunteer|p|s|pt)[-_ ]?\w*\d\w*",
    re.IGNORECASE,
)
GROUP = re.compile(
    r"(site|cent(er|re)|hospital|clinic|scanner|institute?|group|cohort|dataset|data|batch|part|set"
    r"|study|train(ing)?|val(id|idation)?|test(ing)?)([-_ ]\w+|\d+|[a-z])?"
    r"|controls?|patients|healthy|hgg|lgg",
    re.IGNORECASE,
)


def words_of(name: str) -> list[str]:
    """The words of a name, in lower case."""
    return [word for word in re.split(r"[-_. ]+", name.lower()) if word]


def canonical(name: str) -> str:
    """A modality's name in a form for comparison: T1w, t1 and T1 become "t1"."""
    lower = name.lower()
    return lower[:-1] if len(lower) > 2 and lower.endswith("w") else lower


class Modalities:
    """The words that name each of the requested modalities.

    Args:
        wanted: the requested modalities as the user spells them.
        also: further words: word → modality.
    """

    def __init__(self, wanted: Sequence[str], also: Mapping[str, str] | None = None) -> None:
        self.wanted = tuple(wanted)
        own = {canonical(name): name for name in wanted}
        self._words: dict[str, str] = {word: "" for word in OTHERS}
        for group in MODALITIES:
            asked = [own[canonical(word)] for word in group if canonical(word) in own]
            for word in group:
                self._words[word] = asked[0] if asked else ""
        for word, name in own.items():
            self._words |= {word: name, f"{word}w": name}
        if "ct" not in own and "mr" not in own:  # then "MR" says nothing of a modality
            del self._words["mr"], self._words["mri"]
        self._words |= {word.lower(): name for word, name in (also or {}).items()}

    def of(self, word: str) -> str | None:
        """The requested modality that a word names; "" for other modalities, None for none."""
        return self._words.get(word.lower())

    def marked(self, words: Sequence[str]) -> tuple[int, int, str] | None:
        """First index, last index + 1 and modality of the words that name a modality.

        The modality is "" if it was not requested or if the words name two modalities. The result
        is None if no word names a modality.
        """
        hits = _hits(words, self._words)
        exact = [hit for hit in hits if words[hit[0]] not in ("mr", "mri")]
        hits = exact or hits  # "MR" beside T1 says nothing new
        if not hits:
            return None
        names = {self._words.get(word, "") for _, _, word in hits}
        name = names.pop() if len(names) == 1 else ""
        return hits[0][0], hits[-1][1], name


def _hits(words: Sequence[str], known: Iterable[str]) -> list[tuple[int, int, str]]:
    """(first, last + 1, word) of each place that names a modality; compounds count as one."""
    hits, i = [], 0
    while i < len(words):
        pair = next((made for both, made in COMPOUNDS if tuple(words[i : i + 2]) == both), "")
        if pair:
            hits.append((i, i + 2, pair))
            i += 2
            continue
        if words[i] in known:
            hits.append((i, i + 1, words[i]))
        i += 1
    return hits
