"""An attack from outside: every command, on what strangers send and on what people mistype."""
