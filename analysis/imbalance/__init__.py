"""Does a fused run use all of its modalities, or does one of them carry it?

game.py has the algebra of exact Shapley values; scores.py one score of many predictions and of
the same resampled patients. On them stand: what each modality adds to the score of a cohort
(cohort.py), to each patient's prediction (shares.py), what its being the right patient's is worth
(shuffle.py), how it predicts alone (alone.py), how it fared in training (history.py), what the
model's own gates say (gates.py). verdict.py judges by stated rules, report.py gathers it all and
across.py sets runs of several tasks side by side.
"""
