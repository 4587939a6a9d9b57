"""The jobs' command lines: their options, their input, their closing line of JSON."""
