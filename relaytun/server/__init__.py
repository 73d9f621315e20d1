"""The public process: signalling on the control port, legs on the relay port."""
