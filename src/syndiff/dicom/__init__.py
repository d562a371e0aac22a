"""DICOM in and out: find, check and read series; write derived series. No torch."""
