"""The floors that the broker is compared with: minimal handlers without the broker's code.

Each module is loaded as its own Lambda function, with this directory as its code.
"""
