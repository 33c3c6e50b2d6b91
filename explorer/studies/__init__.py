"""Studies: many recipes judged side by side."""
