"""Stage `report`: all results on one page that needs no network."""
