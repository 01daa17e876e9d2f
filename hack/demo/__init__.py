"""`make demo`: three teams, a mixed fleet, a spot node that goes, and the bill against what others would have paid."""
