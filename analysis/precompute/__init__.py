"""A cohort's results, computed before anybody asks: what there is to do, who does it, one job."""
