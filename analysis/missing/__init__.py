"""What if a modality is missing: the same run, told less.

design.py says which combinations are asked; predictions.py asks them, once a run and split. All
else reads those numbers: scores of combinations (combinations.py) and of the patterns that occur
(natural.py), random dropping (drop.py), whether more helps (monotonicity.py), one patient
(patient.py). patterns.py counts who has what.
"""
