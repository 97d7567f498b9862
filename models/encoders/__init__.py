"""One file a modality kind: raw tensors in, Encoded out."""
