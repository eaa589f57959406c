"""Where and how the misalignment penalty acts: what each option is worth at equal images seen."""
