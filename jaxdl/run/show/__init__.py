"""What a person sees: lines, tables of claims, pictures, runs beside each other."""
