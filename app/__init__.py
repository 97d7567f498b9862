"""What people see: the fusionlens command and the Streamlit pages."""
