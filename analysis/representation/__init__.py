"""What alignment does to the embeddings of a run: numbers, pictures, one patient's rows."""
