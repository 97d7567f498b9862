"""One file a modality kind: bytes on disk in, arrays out."""
