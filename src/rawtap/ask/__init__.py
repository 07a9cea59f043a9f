"""The questions that are asked of the Lab: pages of packets, waits, explanations, timelines, cables."""
