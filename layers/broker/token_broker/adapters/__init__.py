"""The ports over AWS and HTTP."""
