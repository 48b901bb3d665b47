"""What a guest did to its MTRRs and CR0.CD: events, the trace format, recorders and importers."""
