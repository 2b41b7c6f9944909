"""The pure part: facts and decisions. Nothing here touches AWS, HTTP, the environment or the clock."""
