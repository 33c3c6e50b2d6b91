"""Deep Compression for storage: positions of survivors, their codes, tables; each stream entropy-coded (Han et al. 2016)."""
