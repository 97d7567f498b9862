"""Result object in, plotly Figure out; no Streamlit."""
