"""Can an explanation be believed? Faithfulness, sanity, localisation, agreement; and in words."""
