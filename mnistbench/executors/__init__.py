"""What runs jobs: `local` in one clean process each, `inprocess` in this very process."""
