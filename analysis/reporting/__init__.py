"""What a reviewer reads: guideline items and who answers them, and a manifest to replay."""
