"""What the broker is held against: handlers that do the least. They know nothing of the broker's code.

Each module is loaded as a Lambda function by itself, with this directory as its code.
"""
