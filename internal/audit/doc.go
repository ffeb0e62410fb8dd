// Package audit is an append-only log that shows tampering: a Merkle tree over
// one-line JSON records (the shape of RFC 6962 section 2.1, computed with
// golang.org/x/mod/sumdb/tlog) under signed checkpoints
// (golang.org/x/mod/sumdb/note, Ed25519, in the layout of C2SP
// tlog-checkpoint). Whoever has a copy of the directory and the public key can
// check it without this program's help or its host's: see [Verify].
//
//	log, err := audit.Open(dir, audit.Options{Origin: "moongate-hsm/1234", Logger: logger})
//	...
//	err = log.AppendDurable(ctx, audit.Event{Kind: audit.Change, Action: "key.generate", Outcome: audit.OK, ...})
//	receipt, err := log.Note(audit.Event{Kind: audit.Use, Action: "key.sign", Outcome: audit.OK, ...})
//	err = receipt.Written() // before anybody learns what the use gave
//
// # Files
//
// A log is a directory, mode 0700:
//
//	records.NNNNNN  the records, in segments from 000000 on; the truth, from which hashes can be recomputed
//	hashes          the tree's stored hashes, 32 bytes each, in tlog's order, also of archived records
//	checkpoints     every signed checkpoint, oldest first
//	archived        the frontier behind the archived segments, if there are any
//	reserved        a record number that was never exceeded; see Crashes
//	policy          the policy, if one was set
//	spare           64 KiB of zeros, given up for the record of a full disk
//	uncounted       key uses that went on without a record; see Failures
//	audit.pub       the verifier key, one line, mode 0644
//	audit.key       the signer key, one line, mode 0600
//	lock            names the process that has the log open
//	lost.NNNNNN/    earlier files, after Options.AcceptLoss
//
// A record is one line of JSON with these members, in this order and no other,
// without white space; those after "action" but "outcome" are left out when
// empty:
//
//	{"seq":17,"time":"2026-01-02T15:04:05.000000000Z","kind":"use","action":"key.sign",
//	 "op":"<32 hex digits>","client":"web-1","remote":"10.0.0.7:40112","partition":"p1","role":"co",
//	 "object":"<UUID>","mechanism":"ECDSA_SHA256","outcome":"ok","detail":"..."}
//
// (broken here for the eye). Everything but printable ASCII is escaped as
// \uXXXX, quotation mark and backslash as \" and \\, so that a line is safe to
// show on a terminal and has one encoding only; invalid UTF-8 becomes U+FFFD,
// and a field over its limit ends in "...(+N bytes)". Record number seq is the
// seq'th leaf of the tree, from 0: SHA-256(0x00 || line without its newline).
//
// A checkpoint is a signed note of one signature: the origin, the number of
// records covered and the base64 root hash, a line each, and a line "anchor N"
// where Options.Anchor was given; an empty line; the signature line. In the
// file each note is followed by an empty line. The first one covers no records
// and is written when the log is created.
//
// The file archived is a line "moongate-audit-archived/1"; "segment N", the
// first that is not archived; "records N", those before it; the roots of the
// tree's complete subtrees over these, in base64, the largest first; an empty
// line; and the checkpoint over exactly these records, whose root they give.
//
// # Segments
//
// The newest segment is closed when it has reached Policy.SegmentBytes: its
// records and hashes are fsynced, a checkpoint that covers exactly it and all
// before is signed and fsynced, and then the next segment is created. So every
// segment but the newest is permanent and signed, and [Log.Archive] can move
// it away.
//
// # Crashes
//
// [Log.AppendDurable] returns when the record is fsynced. [Log.Append] returns
// when it is written, as does Written of the receipt that [Log.Note] gave, by
// which uses are written together: it survives the death of the process at once, and a
// power cut once the group commit has fsynced it, at most Options.SyncInterval
// later. Hashes are written after the records, and fsynced before a checkpoint
// covers them. A checkpoint is signed only over records that are fsynced, and
// is fsynced itself before it is shown to anyone; one that covers more records
// than there are therefore means a changed file or a lost one, never a crash.
//
// Before record n is written, a number above n is fsynced in the file
// reserved; a clean Close sets it to the number of records. An Open that finds
// a higher number begins with an event "log.recovered" that says how many
// records the crash may have taken: at least the gap is on record.
//
// # Failures
//
// After a write or an fsync that failed nothing is recorded, and callers get a
// [*WriteError], until the log has mended itself: what it knows to be
// permanent stays, what a failed write left is cut off, what a failed fsync
// may have taken is read back and written anew, or given up, and the events
// "log.stopped", "log.gap", "log.uncounted" and "log.resumed" say what
// happened. The order of the steps is in mend.go.
//
// What is not protected: see docs/audit.md.
package audit
