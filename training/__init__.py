"""Everything that only training and evaluation need. Imports core; nothing imports it but the command line."""
