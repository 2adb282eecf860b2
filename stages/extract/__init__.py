"""Stage `extract`: one embedding of every image by the frozen backbone."""
