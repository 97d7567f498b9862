"""Models and cohorts that a researcher brings to the app, and what is done before they are used."""
