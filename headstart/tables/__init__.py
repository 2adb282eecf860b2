"""Tables: the rows that one stage writes and others read, one module for each producer."""
