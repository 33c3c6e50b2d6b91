"""Weight statistics, histograms, importance criteria."""
