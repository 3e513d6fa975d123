"""The command line: the only place that knows the library that reads options and the one that draws."""
