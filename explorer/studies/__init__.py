"""Studies: many recipes judged to answer one question."""
