"""What was answered, what it turned out to be, and the proof that nobody changed it since.

An answer goes through `Recorder` (a bounded queue and one writing thread) into a `RecordStore`
(SQLite or PostgreSQL). Each row carries the hash of the row before it, and the end of each chain
is signed: `verify` finds a row that was changed, removed or slipped in.
"""
