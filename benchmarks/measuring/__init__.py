"""Workers, clocks, floors and tables: what every benchmark measures and reports with."""
