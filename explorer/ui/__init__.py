"""Streamlit pages, panels and components. Imports no torch."""
