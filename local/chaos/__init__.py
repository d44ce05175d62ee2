"""`make chaos`: people act at random while everything breaks; when it is over the copy must be right."""
