"""What a journal's statistical reviewer asks of prediction models, in one report.

Inputs of the inner modules are arrays, so that predictions of any origin can be judged.
"""
