"""Stage `report`: everything on one page that needs no network."""
