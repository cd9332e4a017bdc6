"""Everything between the waveform and the network: batched on the device."""
