"""Arrays in, arrays out: front end, scalogram, image, encoder, similarity and the recognizer that chains them."""
