"""What joins a guest and KVM with protocols: rows of a comparison, memory maps, predictions."""
