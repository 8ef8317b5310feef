"""Bronze rows typed, deduplicated, in sessions and in the home currency; refused rows are kept with their rules and counted."""
