"""What is computed: cohorts, predictions, statistics, explanations. No Streamlit, no Plotly."""
