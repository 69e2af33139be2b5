"""Side by side with peers in one run, by family; `measuring` holds what all of them measure and report with."""
