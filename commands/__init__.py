"""The commands, one file a theme: each parses its options, calls one function of core or training, prints."""
