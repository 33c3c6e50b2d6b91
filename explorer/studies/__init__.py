"""Many recipes looked at together: maps and scans."""
