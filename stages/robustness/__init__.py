"""Stage `robustness`: the accuracy of both tracks on shifted pictures."""
